//! Waking a waiting shard: never lost, however the two sides interleave.
#![allow(clippy::unwrap_used)] // A panic is the failure report.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanmill_engine::io::Io;
use fanmill_engine::io::uring::{UringConfig, UringIo};

fn open() -> UringIo {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    UringIo::open(UringConfig::new(loopback)).unwrap().0
}

#[test]
fn a_wake_before_the_wait_is_not_forgotten() {
    let mut io = open();
    io.waker().wake();
    // Without end: a lost wake-up would hang here.
    io.poll(None).unwrap();
    assert_eq!(io.counters().wakes, 1);
}

#[test]
fn a_waiting_shard_is_woken_from_another_thread() {
    let mut io = open();
    let waker = io.waker();
    let thread = std::thread::spawn(move || waker.wake());
    io.poll(None).unwrap();
    thread.join().unwrap();
}

/// Two threads pass a turn to and fro: each step publishes, wakes and waits without end. One lost
/// wake-up in either direction hangs the test.
#[test]
fn no_wake_is_lost_over_many_turns() {
    const TURNS: u64 = 20_000;
    let turn = Arc::new(AtomicU64::new(0));
    let (send_waker, other_waker) = std::sync::mpsc::channel();
    let mut here = open();
    let waker_here = here.waker();
    let turn_there = Arc::clone(&turn);
    let thread = std::thread::spawn(move || {
        let mut there = open();
        send_waker.send(there.waker()).unwrap();
        play(&mut there, &waker_here, &turn_there, 1, TURNS);
    });
    let waker_there = other_waker.recv().unwrap();
    play(&mut here, &waker_there, &turn, 0, TURNS);
    thread.join().unwrap();
}

fn play(
    io: &mut UringIo,
    other: &fanmill_engine::io::uring::Waker,
    turn: &AtomicU64,
    parity: u64,
    turns: u64,
) {
    loop {
        let now = turn.load(Ordering::Relaxed);
        if now >= turns {
            return;
        }
        if now % 2 == parity {
            turn.store(now + 1, Ordering::Relaxed);
            other.wake();
        } else if !changes_soon(turn, now) {
            io.poll(None).unwrap();
        }
    }
}

/// Watches for a while that differs from turn to turn, so that the other side's wake-up meets every
/// phase of falling asleep instead of always finding a sleeper.
fn changes_soon(turn: &AtomicU64, now: u64) -> bool {
    (0..now * 37 % 400).any(|_| {
        std::hint::spin_loop();
        turn.load(Ordering::Relaxed) != now
    })
}

/// Producers that never wait for the shard: every item published before a wake must be seen
/// although the shard sleeps whenever it finds nothing.
#[test]
fn everything_published_before_a_wake_is_seen() {
    const ITEMS: u64 = 50_000;
    let published = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let mut io = open();
    let producers: Vec<_> = (0..2)
        .map(|producer| {
            let (waker, published) = (io.waker(), Arc::clone(&published));
            std::thread::spawn(move || {
                for _ in 0..ITEMS {
                    published[producer].fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                }
            })
        })
        .collect();
    loop {
        io.poll(None).unwrap();
        if published
            .iter()
            .all(|count| count.load(Ordering::Relaxed) == ITEMS)
        {
            break;
        }
    }
    producers
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}
