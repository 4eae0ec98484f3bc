//! Bounds on what the tables say: in simulated time, so they hold on any machine.

use std::slice::from_ref;

use super::*;

/// All of some scenarios, with their table in the output.
fn play(scenarios: Vec<Scenario>) -> Vec<(Scenario, Outcome)> {
    let outcomes: Vec<_> = scenarios.iter().map(run).collect();
    println!("{}", tables::table(&scenarios, &outcomes));
    scenarios.into_iter().zip(outcomes).collect()
}

#[test]
fn it_follows_the_link_up_and_down() {
    for (scenario, outcome) in play(scenarios::links()) {
        let line = tables::table(from_ref(&scenario), from_ref(&outcome));
        if scenario.polices {
            assert!(outcome.utilisation > 0.7, "{line}");
            assert!(outcome.frozen_ms < 25_000, "{line}");
            continue;
        }
        assert!(outcome.utilisation > 0.85, "{line}");
        // Of a minute, the seconds until a narrow link is known are the longest.
        assert!(outcome.queue_ms[0] < 30.0, "{line}");
        assert!(outcome.queue_ms[1] < 450.0, "{line}");
        assert!(outcome.frozen_ms < 4_000, "{line}");
        for ms in &outcome.settled_ms {
            assert!(ms.is_some_and(|ms| ms < 6_000), "{line}");
        }
    }
}

#[test]
fn random_loss_is_not_taken_for_a_full_link() {
    for (scenario, outcome) in play(scenarios::losses()) {
        let line = tables::table(from_ref(&scenario), from_ref(&outcome));
        assert!(outcome.utilisation > 0.85, "{line}");
        assert!(outcome.queue_ms[1] < 60.0, "{line}");
    }
}

#[test]
fn others_on_the_link_are_left_their_part() {
    for (scenario, outcome) in play(scenarios::sharing()) {
        let line = tables::table(from_ref(&scenario), from_ref(&outcome));
        assert!(outcome.queue_ms[0] < 150.0, "{line}");
        if scenario.constant.is_none() {
            assert!(outcome.fairness > 0.6, "{line}");
        }
    }
}

#[test]
fn a_good_picture_is_there_within_two_seconds() {
    for scenario in scenarios::links() {
        let outcome = run(&scenario);
        let settled_ms = outcome.first_picture_ms;
        assert!(
            settled_ms.is_some_and(|ms| ms < 2_000),
            "{}: {settled_ms:?}",
            scenario.name
        );
    }
}

#[test]
fn an_audience_on_mixed_links_is_served_well() {
    let audience = population::play(60);
    println!("{}", tables::audience(&audience));
    let utilisation = population::quantile(&audience.utilisation, 0.05);
    assert!(
        utilisation.is_some_and(|share| share > 0.6),
        "{utilisation:?}"
    );
    let queues: Vec<_> = audience.queue_ms.iter().map(|queue| queue[0]).collect();
    let queue_ms = population::quantile(&queues, 0.95);
    assert!(queue_ms.is_some_and(|ms| ms < 60.0), "{queue_ms:?}");
    let frozen_ms = population::quantile(&audience.frozen_ms, 0.75);
    assert!(frozen_ms.is_some_and(|ms| ms < 3_000), "{frozen_ms:?}");
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let scenario = population::link(17);
    let [one, other] = [run(&scenario), run(&scenario)].map(|outcome| format!("{outcome:?}"));
    assert_eq!(one, other);
}
