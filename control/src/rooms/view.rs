//! What a viewer of a room is told of it. Parts that have not changed are shared from one to the next, so
//! that whoever tells them sees by their addresses what is new.

use std::sync::Arc;

use serde::Serialize;

/// Members that viewers are told of by name; of more they are told the number.
pub const MAX_MEMBERS_TOLD: usize = 200;

/// A room as one viewer has it.
#[derive(Debug, Clone, Default)]
pub struct RoomView {
    /// Who is in it.
    pub members: Arc<MembersView>,
    /// Who is in which of the viewer's slots.
    pub slots: Arc<SlotsView>,
    /// The dominant speaker.
    pub speaker: Option<Arc<str>>,
}

/// Who is in a room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MembersView {
    /// The room.
    pub room: String,
    /// How many there are.
    pub count: usize,
    /// Who they are, in the order in which they came; at most [`MAX_MEMBERS_TOLD`].
    pub members: Vec<MemberView>,
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// It can be heard.
    pub audio: bool,
    /// It can be seen.
    pub video: bool,
}

/// Who is in which slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SlotsView {
    /// Of sound, in the order of the offer.
    pub audio: Vec<SlotView>,
    /// Of pictures, likewise.
    pub video: Vec<SlotView>,
}

/// A slot: one track of a viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotView {
    /// The identification of its media section.
    pub mid: String,
    /// Who is in it; `null`: nobody.
    pub member: Option<String>,
}
