//! One room: its members and what is known of their voices, its viewers, and the order in which members
//! are wanted in slots.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use fanmill_engine::levels::LatestLevels;
use serde_json::json;

use super::speaker::{Voice, dominant};
use super::view::{MAX_MEMBERS_TOLD, MemberView, MembersView};
use super::watcher::{PublisherId, Watcher};
use crate::events::Events;
use crate::model::{IncomingStream, IncomingTrack, attach_pairs};
use crate::sdp::MediaKind;

/// Steps for which one who talked still counts as talking: pauses between words are shorter.
const TALKS_ON_STEPS: u64 = 7;

/// Who publishes a member's stream.
#[derive(Clone, Copy)]
pub(crate) struct Publishing<'a> {
    /// Its name in the engine.
    pub(crate) id: PublisherId,
    /// What it is: `whip`, `player` and so on.
    pub(crate) source: &'static str,
    /// What it shares.
    pub(crate) incoming: &'a IncomingStream,
}

pub(super) struct Room {
    pub(super) name: String,
    /// In the order in which they came.
    pub(super) members: Vec<Member>,
    pub(super) watchers: HashMap<u64, Arc<Watcher>>,
    pub(super) speaker: Option<Arc<str>>,
    /// The speaker has changed since slots were last given.
    speaker_is_new: bool,
    told: Arc<MembersView>,
    /// Steps since it began.
    pub(super) steps: u64,
    pub(super) since: Instant,
    /// Publishers in the order in which they are wanted in slots of sound, and of pictures.
    heard: Vec<PublisherId>,
    seen: Vec<PublisherId>,
}

pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) publisher: PublisherId,
    pub(super) source: &'static str,
    pub(super) since: Instant,
    pub(super) audio: Option<Arc<IncomingTrack>>,
    pub(super) video: Option<Arc<IncomingTrack>>,
    pub(super) voice: Voice,
    pub(super) levels: LatestLevels,
    /// The steps in which its present talk began, if it talks.
    pub(super) talks_since: Option<u64>,
    /// The latest step in which it talked.
    pub(super) talked_at: Option<u64>,
    /// The latest step in which it was the dominant speaker.
    pub(super) dominant_at: Option<u64>,
}

impl Member {
    fn new(name: &str, publishing: Publishing<'_>) -> Self {
        let track = |kind| publishing.incoming.track(kind, 0).cloned();
        Self {
            name: name.into(),
            publisher: publishing.id,
            source: publishing.source,
            since: Instant::now(),
            audio: track(MediaKind::Audio),
            video: track(MediaKind::Video),
            voice: Voice::default(),
            levels: LatestLevels::default(),
            talks_since: None,
            talked_at: None,
            dominant_at: None,
        }
    }

    /// Takes in the levels that came since the last step; says whether it is wanted in slots otherwise
    /// than before: it began or ceased to talk, or its packets say for the first time how loud it is.
    fn listen(&mut self, step: u64) -> bool {
        let Some(audio) = &self.audio else {
            return false;
        };
        let latest = audio.encodings()[0].counters().levels.latest();
        if latest == self.levels && self.voice.is_silent() && self.talks_since.is_none() {
            return false;
        }
        let are_first = !self.levels.is_any() && latest.is_any();
        self.voice.step(latest.since(self.levels));
        self.levels = latest;
        if self.voice.talks() {
            self.talked_at = Some(step);
        }
        let talks = self.talked_at.is_some_and(|at| step < at + TALKS_ON_STEPS);
        let changed = talks != self.talks_since.is_some();
        if changed {
            self.talks_since = talks.then_some(step);
        }
        changed || are_first
    }

    /// The least is wanted first in slots of sound: who talks, in the order in which they began; then
    /// who talked last; then those of whom nobody can know when they talk, and those who never did.
    fn wanted_heard(&self) -> (u8, u64) {
        match (self.talks_since, self.talked_at) {
            (Some(since), _) => (0, since),
            (None, Some(at)) => (1, u64::MAX - at),
            (None, None) => (2 + u8::from(self.levels.is_any()), 0),
        }
    }
}

impl Room {
    pub(super) fn new(name: &str) -> Self {
        let told = MembersView {
            room: name.to_owned(),
            ..MembersView::default()
        };
        Self {
            name: name.to_owned(),
            members: Vec::new(),
            watchers: HashMap::new(),
            speaker: None,
            speaker_is_new: false,
            told: Arc::new(told),
            steps: 0,
            since: Instant::now(),
            heard: Vec::new(),
            seen: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.watchers.is_empty()
    }

    /// Takes note of who publishes as a member now.
    pub(super) fn published(&mut self, name: &str, now: Option<Publishing<'_>>, events: &Events) {
        let present = self.members.iter().position(|one| &*one.name == name);
        match (present, now) {
            (Some(place), Some(now)) => {
                // Another one under the same name, such as its backup: it is the same member.
                let former = &self.members[place];
                self.members[place] = Member {
                    since: former.since,
                    voice: former.voice.clone(),
                    talks_since: former.talks_since,
                    talked_at: former.talked_at,
                    dominant_at: former.dominant_at,
                    ..Member::new(name, now)
                };
            }
            (None, Some(now)) => {
                self.members.push(Member::new(name, now));
                self.emit("room.member_joined", name, now.source, events);
            }
            (Some(place), None) => {
                let member = self.members.remove(place);
                self.emit("room.member_left", name, member.source, events);
                if self.speaker.as_ref() == Some(&member.name) {
                    self.change_speaker(None, events);
                }
            }
            (None, None) => {}
        }
        self.tell_members();
    }

    fn emit(&self, kind: &str, member: &str, source: &str, events: &Events) {
        let stream = format!("{}~{member}", self.name);
        let details = json!({ "room": self.name, "member": member, "source": source });
        events.emit(kind, Some(&stream), details);
    }

    fn tell_members(&mut self) {
        let members = self.members.iter().take(MAX_MEMBERS_TOLD);
        let members = members.map(|member| MemberView {
            name: member.name.to_string(),
            audio: member.audio.is_some(),
            video: member.video.is_some(),
        });
        self.told = Arc::new(MembersView {
            room: self.name.clone(),
            count: self.members.len(),
            members: members.collect(),
        });
    }

    /// Lets somebody watch; who is in its slots is decided when the room settles.
    pub(super) fn seat(&mut self, watcher: &Arc<Watcher>) {
        watcher.clear();
        self.watchers.insert(watcher.transport, Arc::clone(watcher));
    }

    pub(super) fn unseat(&mut self, watcher: &Watcher) {
        self.watchers.remove(&watcher.transport);
        watcher.clear();
        watcher.tell(&self.told, None, |_| None);
    }

    /// Listens to all members for a step; says whether others may be wanted in slots.
    pub(super) fn step(&mut self, events: &Events) -> bool {
        self.steps += 1;
        let mut stirred = false;
        for member in &mut self.members {
            stirred |= member.listen(self.steps);
        }
        let voices = self.members.iter().filter(|one| one.audio.is_some());
        let voices = voices.map(|one| (&*one.name, &one.voice));
        let speaker = dominant(self.speaker.as_deref(), voices);
        if speaker != self.speaker.as_deref() {
            let speaker = speaker.map(Arc::from);
            self.change_speaker(speaker, events);
            stirred = true;
        }
        let step = self.steps;
        let speaker = self.speaker.clone();
        let mut members = self.members.iter_mut();
        if let Some(member) = members.find(|one| Some(&one.name) == speaker.as_ref()) {
            member.dominant_at = Some(step);
        }
        stirred
    }

    fn change_speaker(&mut self, speaker: Option<Arc<str>>, events: &Events) {
        let stream = format!("{}~{}", self.name, speaker.as_deref().unwrap_or_default());
        let details = json!({ "room": self.name, "member": speaker.as_deref() });
        events.emit("room.speaker", Some(&stream), details);
        self.speaker = speaker;
        self.speaker_is_new = true;
    }

    /// Decides who is wanted in slots, gives each viewer's slots to them, and tells the viewers.
    pub(super) fn settle(&mut self) {
        self.order();
        let by_publisher: HashMap<PublisherId, &Member> = self
            .members
            .iter()
            .map(|member| (member.publisher, member))
            .collect();
        let mut pairs = Vec::new();
        for watcher in self.watchers.values() {
            let is_own = |publisher: &PublisherId| {
                let member = by_publisher.get(publisher);
                member.is_some_and(|member| watcher.own.as_deref() == Some(&*member.name))
            };
            for (kind, wanted) in [
                (MediaKind::Audio, &self.heard),
                (MediaKind::Video, &self.seen),
            ] {
                let others = wanted.iter().copied().filter(|one| !is_own(one));
                for (track, publisher) in watcher.assign(kind, others) {
                    let member = publisher.and_then(|publisher| by_publisher.get(&publisher));
                    let source = member.and_then(|member| match kind {
                        MediaKind::Audio => member.audio.as_ref(),
                        _ => member.video.as_ref(),
                    });
                    pairs.push((track, source));
                }
            }
        }
        if std::mem::take(&mut self.speaker_is_new)
            && let Some(video) = self.speaking().and_then(|speaker| speaker.video.as_ref())
            && pairs
                .iter()
                .any(|(_, shown)| shown.is_some_and(|shown| Arc::ptr_eq(shown, video)))
        {
            request_keyframes(video);
        }
        let unshown = attach_pairs(pairs);
        if let Some(reason) = unshown.reason {
            // They see what could be shown; the rest follows when who has just gone is noticed here.
            let tracks = unshown.tracks;
            tracing::debug!(room = self.name, tracks, %reason, "cannot fill all slots");
        }
        for watcher in self.watchers.values() {
            watcher.tell(&self.told, self.speaker.as_ref(), |publisher| {
                by_publisher.get(&publisher).map(|member| &*member.name)
            });
        }
    }

    fn speaking(&self) -> Option<&Member> {
        let mut members = self.members.iter();
        members.find(|member| Some(&member.name) == self.speaker.as_ref())
    }

    fn order(&mut self) {
        let speaker = self.speaker.as_deref();
        let of = |members: &mut [&Member]| -> Vec<PublisherId> {
            members.iter().map(|member| member.publisher).collect()
        };
        let mut heard: Vec<&Member> = self.members.iter().collect();
        heard.retain(|member| member.audio.is_some());
        // The sort is stable: equals stay in the order in which they came.
        heard.sort_by_key(|member| {
            let dominant = Some(&*member.name) == speaker && member.talks_since.is_some();
            (!dominant, member.wanted_heard())
        });
        let mut seen: Vec<&Member> = self.members.iter().collect();
        seen.retain(|member| member.video.is_some());
        seen.sort_by_key(|member| Reverse(member.dominant_at));
        (self.heard, self.seen) = (of(&mut heard), of(&mut seen));
    }
}

/// Has the picture of a new speaker go on with the present: what is cached may be long past where nobody
/// needed a keyframe.
fn request_keyframes(video: &IncomingTrack) {
    for encoding in video.encodings().iter().filter(|one| one.is_active()) {
        // Of one who has just gone nobody needs any.
        let _ = encoding.request_keyframe();
    }
}
