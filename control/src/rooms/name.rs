//! The names of streams that have to do with rooms.

/// What a stream's name says of rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomStream<'a> {
    /// A member's stream, `ROOM~MEMBER`.
    Member {
        /// The room.
        room: &'a str,
        /// The member.
        member: &'a str,
    },
    /// The room itself, `ROOM~`, which is watched and not published.
    Room(&'a str),
}

impl<'a> RoomStream<'a> {
    /// Reads a stream's name; `None`: it is of no room.
    #[must_use]
    pub fn parse(stream: &'a str) -> Option<Self> {
        let (room, member) = stream.split_once('~')?;
        match (room, member) {
            ("", _) => None,
            (room, "") => Some(Self::Room(room)),
            (room, member) => Some(Self::Member { room, member }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tilde_parts_a_room_from_its_member() {
        let member = |room, member| Some(RoomStream::Member { room, member });
        assert_eq!(RoomStream::parse("kitchen~ann"), member("kitchen", "ann"));
        assert_eq!(RoomStream::parse("a~b~c"), member("a", "b~c"));
        assert_eq!(RoomStream::parse("a~~"), member("a", "~"));
        assert_eq!(
            RoomStream::parse("kitchen~"),
            Some(RoomStream::Room("kitchen"))
        );
        for other in ["kitchen", "~ann", "~", ""] {
            assert_eq!(RoomStream::parse(other), None, "{other}");
        }
    }
}
