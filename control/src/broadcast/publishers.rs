//! The publishers of one stream, a primary and a backup, and which of the two is on air: shown to the
//! viewers.
//!
//! A stream in [`Broadcast`](super::Broadcast)'s tables owns it, asks it to settle whenever something
//! about a publisher has changed, and then shows viewers what it says. It touches neither viewers nor
//! the data plane.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::publisher::Publisher;

/// How long a primary publisher that was silent must be heard without a pause before it is shown again
/// of itself: one that comes and goes would take the picture with it each time.
pub const RETURN_AFTER: Duration = Duration::from_secs(2);

/// How long a publisher must be silent, once that is known, before another one is shown: if that one
/// falls silent in this time too, it is the network they share that was lost.
pub(super) const LOST_AFTER: Duration = Duration::from_millis(50);

/// How long a publisher must be heard before it is shown in place of one that is silent: when both come
/// at once, or come back at once after the network was away, the first packets say nothing.
const PROVEN_AFTER: Duration = Duration::from_millis(100);

/// What a publisher is to its stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Viewers are shown this one.
    #[default]
    Primary,
    /// Viewers are shown this one while there is no primary, or it is silent.
    Backup,
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Primary => Self::Backup,
            Self::Backup => Self::Primary,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        })
    }
}

/// How viewers come back from the backup to the primary publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TakeoverBack {
    /// When the primary has been heard for [`RETURN_AFTER`] and has sent a keyframe since.
    #[default]
    Auto,
    /// When an operator says so, or the backup is lost.
    Manual,
}

/// What matters of a publisher that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Health {
    /// No media has come in for [`LOST_AFTER`] longer than it takes to know.
    lost: bool,
    /// Media comes in, and has for [`PROVEN_AFTER`].
    proven: bool,
    /// It has for [`RETURN_AFTER`], and viewers could begin with it at once; of the primary, while it
    /// may come back by itself.
    steady: bool,
}

impl Health {
    fn of(publisher: &Publisher) -> Self {
        let heard = publisher.is_heard();
        let unchanged_for = publisher.unchanged_for();
        Self {
            lost: !heard && unchanged_for >= LOST_AFTER,
            proven: heard && unchanged_for >= PROVEN_AFTER,
            steady: false,
        }
    }
}

#[derive(Default)]
pub(super) struct Publishers {
    primary: Option<Publisher>,
    backup: Option<Publisher>,
    on_air: Option<Publisher>,
    /// The backup was chosen by hand, and stays until it is lost.
    held: bool,
}

impl Publishers {
    pub(super) fn is_empty(&self) -> bool {
        self.primary.is_none() && self.backup.is_none()
    }

    /// Whether there are two to choose between.
    pub(super) fn are_two(&self) -> bool {
        self.primary.is_some() && self.backup.is_some()
    }

    pub(super) fn get(&self, role: Role) -> Option<&Publisher> {
        match role {
            Role::Primary => self.primary.as_ref(),
            Role::Backup => self.backup.as_ref(),
        }
    }

    /// Those that are there, with what they are.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Role, &Publisher)> {
        [Role::Primary, Role::Backup]
            .into_iter()
            .filter_map(|role| Some((role, self.get(role)?)))
    }

    /// Those that are there.
    pub(super) fn all(&self) -> Vec<Publisher> {
        self.iter()
            .map(|(_, publisher)| publisher.clone())
            .collect()
    }

    /// The one that viewers are shown.
    pub(super) fn on_air(&self) -> Option<&Publisher> {
        self.on_air.as_ref()
    }

    pub(super) fn is_on_air(&self, publisher: &Publisher) -> bool {
        let on_air = self.on_air.as_ref();
        on_air.is_some_and(|on_air| on_air.id() == publisher.id())
    }

    /// Puts a publisher in its place, where there is none or a dead one.
    pub(super) fn set(&mut self, role: Role, publisher: Publisher) {
        *self.place(role) = Some(publisher);
    }

    /// Forgets a publisher, if it still is in a place.
    pub(super) fn remove(&mut self, publisher: &Publisher) {
        for role in [Role::Primary, Role::Backup] {
            self.place(role)
                .take_if(|present| present.id() == publisher.id());
        }
    }

    /// Puts one of them on air by hand, to stay there until it is lost. The caller knows that it is
    /// there. `true` if another one was on air.
    pub(super) fn hold(&mut self, role: Role) -> bool {
        let changed = self.put_on_air(Some(role));
        self.held = role == Role::Backup;
        changed
    }

    /// Puts on air who should be; `true` if another one was, or nobody.
    pub(super) fn settle(&mut self, back: TakeoverBack) -> bool {
        let role = self.choose(back);
        self.put_on_air(role)
    }

    fn put_on_air(&mut self, role: Option<Role>) -> bool {
        let next = role.and_then(|role| self.get(role)).cloned();
        let id = |publisher: &Option<Publisher>| publisher.as_ref().map(Publisher::id);
        let changed = id(&self.on_air) != id(&next);
        self.on_air = next;
        self.held &= !changed;
        changed
    }

    fn choose(&self, back: TakeoverBack) -> Option<Role> {
        let (Some(primary), Some(backup)) = (&self.primary, &self.backup) else {
            return self.iter().next().map(|(role, _)| role);
        };
        let mut roles = self.iter();
        let on_air = roles.find(|(_, publisher)| self.is_on_air(publisher));
        let on_air = on_air.map(|(role, _)| role);
        let returns = on_air == Some(Role::Backup) && back == TakeoverBack::Auto && !self.held;
        let primary = Health {
            steady: returns
                && primary.is_heard()
                && primary.unchanged_for() >= RETURN_AFTER
                && primary.has_picture_ready(),
            ..Health::of(primary)
        };
        Some(chosen(on_air, primary, Health::of(backup)))
    }

    fn place(&mut self, role: Role) -> &mut Option<Publisher> {
        match role {
            Role::Primary => &mut self.primary,
            Role::Backup => &mut self.backup,
        }
    }
}

/// Which of two publishers viewers are to be shown; `on_air` is the one they are shown now.
fn chosen(on_air: Option<Role>, primary: Health, backup: Health) -> Role {
    let current = on_air.unwrap_or_default();
    let (this, other) = match current {
        Role::Primary => (primary, backup),
        Role::Backup => (backup, primary),
    };
    if this.lost && other.proven {
        current.other()
    } else if primary.steady {
        Role::Primary
    } else {
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heard or silent for a moment.
    const NEW: Health = Health {
        lost: false,
        proven: false,
        steady: false,
    };
    const LOST: Health = Health { lost: true, ..NEW };
    const HEARD: Health = Health {
        proven: true,
        ..NEW
    };
    const STEADY: Health = Health {
        steady: true,
        ..HEARD
    };

    #[test]
    fn who_is_lost_gives_way_to_who_is_heard() {
        let (main, spare) = (Some(Role::Primary), Some(Role::Backup));
        for (on_air, primary, backup, expected) in [
            // At the start.
            (None, LOST, LOST, Role::Primary),
            (None, LOST, HEARD, Role::Backup),
            (None, NEW, HEARD, Role::Primary),
            // The primary is lost.
            (main, HEARD, HEARD, Role::Primary),
            (main, LOST, HEARD, Role::Backup),
            (main, LOST, LOST, Role::Primary),
            // The backup is lost.
            (spare, HEARD, LOST, Role::Primary),
            (spare, LOST, LOST, Role::Backup),
            // Both come, or come back, at once; or go.
            (main, LOST, NEW, Role::Primary),
            (spare, NEW, LOST, Role::Backup),
            (main, NEW, HEARD, Role::Primary),
        ] {
            assert_eq!(
                chosen(on_air, primary, backup),
                expected,
                "{on_air:?} {primary:?} {backup:?}"
            );
        }
    }

    #[test]
    fn the_primary_comes_back_when_it_is_steady() {
        let on_air = Some(Role::Backup);
        assert_eq!(chosen(on_air, HEARD, HEARD), Role::Backup);
        assert_eq!(chosen(on_air, STEADY, HEARD), Role::Primary);
    }
}
