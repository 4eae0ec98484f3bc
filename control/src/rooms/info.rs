//! Rooms in reports, as the admin socket and the pages have them.

use serde::Serialize;

use super::room::{Member, Room};
use super::speaker::STEP;
use super::watcher::Watcher;
use crate::sdp::MediaKind;

/// Viewers listed in a report; beyond that only their number is told.
pub const MAX_WATCHERS_LISTED: usize = 1000;

/// A room in a list.
#[derive(Debug, Clone, Serialize)]
pub struct RoomInfo {
    /// Its name.
    pub room: String,
    /// How many publish in it.
    pub members: usize,
    /// How many watch it.
    pub viewers: usize,
    /// Who speaks, or spoke last.
    pub speaker: Option<String>,
    /// Seconds since somebody was first there.
    pub uptime_s: u64,
}

/// A room with everybody in it.
#[derive(Debug, Clone, Serialize)]
pub struct RoomDetails {
    /// What a list says of it.
    #[serde(flatten)]
    pub room: RoomInfo,
    /// Its members, in the order in which they came.
    pub member_list: Vec<MemberInfo>,
    /// Its viewers, at most [`MAX_WATCHERS_LISTED`].
    pub viewer_list: Vec<WatcherInfo>,
}

/// A member of a room.
#[derive(Debug, Clone, Serialize)]
pub struct MemberInfo {
    /// Its name.
    pub member: String,
    /// Its stream.
    pub stream: String,
    /// What publishes it: `whip`, `player` and so on.
    pub source: &'static str,
    /// It can be heard.
    pub audio: bool,
    /// It can be seen.
    pub video: bool,
    /// Its packets say how loud it is (RFC 6464); of one whose packets do not, nobody knows when it
    /// speaks.
    pub levels: bool,
    /// It talks now.
    pub talks: bool,
    /// Milliseconds since it last talked; `null`: never.
    pub talked_ms_ago: Option<u64>,
    /// Seconds since it came.
    pub uptime_s: u64,
}

/// A viewer of a room.
#[derive(Debug, Clone, Serialize)]
pub struct WatcherInfo {
    /// Its transport.
    pub transport: u64,
    /// Which of the members it is, if any.
    pub member: Option<String>,
    /// Its slots of sound.
    pub audio: Vec<SlotInfo>,
    /// Its slots of pictures.
    pub video: Vec<SlotInfo>,
}

/// A slot in a report: who is in it, if anybody.
pub type SlotInfo = Option<String>;

impl Room {
    pub(super) fn info(&self) -> RoomInfo {
        RoomInfo {
            room: self.name.clone(),
            members: self.members.len(),
            viewers: self.watchers.len(),
            speaker: self.speaker.as_deref().map(str::to_owned),
            uptime_s: self.since.elapsed().as_secs(),
        }
    }

    pub(super) fn details(&self) -> RoomDetails {
        let members = self.members.iter().map(|member| self.member_info(member));
        let mut watchers: Vec<_> = self.watchers.values().collect();
        watchers.sort_by_key(|watcher| watcher.transport);
        watchers.truncate(MAX_WATCHERS_LISTED);
        RoomDetails {
            room: self.info(),
            member_list: members.collect(),
            viewer_list: watchers.iter().map(|one| self.watcher_info(one)).collect(),
        }
    }

    fn member_info(&self, member: &Member) -> MemberInfo {
        let ago = |step: u64| (self.steps - step) * STEP.as_millis() as u64;
        MemberInfo {
            member: member.name.to_string(),
            stream: format!("{}~{}", self.name, member.name),
            source: member.source,
            audio: member.audio.is_some(),
            video: member.video.is_some(),
            levels: member.levels.is_any(),
            talks: member.talks_since.is_some(),
            talked_ms_ago: member.talked_at.map(ago),
            uptime_s: member.since.elapsed().as_secs(),
        }
    }

    fn watcher_info(&self, watcher: &Watcher) -> WatcherInfo {
        let slots = watcher.slots();
        let named = |kind| -> Vec<SlotInfo> {
            let each = slots.of(kind).iter();
            each.map(|publisher| {
                let mut members = self.members.iter();
                let member = members.find(|member| Some(member.publisher) == *publisher)?;
                Some(member.name.to_string())
            })
            .collect()
        };
        WatcherInfo {
            transport: watcher.transport,
            member: watcher.own.clone(),
            audio: named(MediaKind::Audio),
            video: named(MediaKind::Video),
        }
    }
}
