//! The methods about rooms.

use serde::Deserialize;

use super::{Caller, Methods, Reason, RpcError};
use crate::rooms::Rooms;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomName {
    room: String,
}

/// Adds `room.list` and `room.get`.
pub fn add_room_methods(methods: &mut Methods, rooms: &Rooms) {
    let of = rooms.clone();
    methods.add(
        "room.list",
        "Every room: how many publish in it and watch it, and who speaks.",
        move |_: Caller, Nothing {}| {
            let of = of.clone();
            async move { Ok(of.list()) }
        },
    );
    let of = rooms.clone();
    methods.add(
        "room.get",
        "One room: its members, with who talks, and its viewers, with who is in their slots.",
        move |_: Caller, RoomName { room }: RoomName| {
            let of = of.clone();
            async move {
                let details = of.get(&room);
                details.ok_or_else(|| {
                    RpcError::new(Reason::NotFound, format!("there is no room {room}"))
                })
            }
        },
    );
}
