//! Many rooms, and what is left of them.

use super::*;
use crate::events::Filter;
use crate::model::IncomingStream;

fn publishing(id: u64, incoming: &IncomingStream) -> Publishing<'_> {
    Publishing {
        id,
        source: "test",
        incoming,
    }
}

#[tokio::test]
async fn ten_thousand_rooms_come_and_go_and_leave_nothing_behind() {
    let rooms = Rooms::new(Events::new());
    let (incoming, outgoing) = (IncomingStream::empty(), OutgoingStream::empty());
    let mut seats = Vec::new();
    for room in 0..10_000 {
        rooms.published(
            &format!("r{room}~ann"),
            Some(publishing(2 * room, &incoming)),
        );
        seats.push(rooms.watch(&format!("r{room}"), Some("ann"), 2 * room + 1, &outgoing));
    }
    for _ in 0..20 {
        assert!(rooms.0.look(true));
    }
    assert_eq!(rooms.list().len(), 10_000);
    seats.iter().for_each(Seat::leave);
    for room in 0..10_000 {
        assert_eq!(
            rooms
                .get(&format!("r{room}"))
                .expect("Ann is there")
                .room
                .members,
            1
        );
        rooms.published(&format!("r{room}~ann"), None);
    }
    assert!(!rooms.0.look(false), "nobody is there to look after");
    assert!(rooms.list().is_empty());
    let table = rooms.0.table();
    assert!(table.rooms.is_empty() && table.changed.is_empty());
}

#[tokio::test]
async fn streams_of_other_names_make_no_room() {
    let rooms = Rooms::new(Events::new());
    let incoming = IncomingStream::empty();
    for stream in ["kitchen", "~ann", "kitchen~"] {
        rooms.published(stream, Some(publishing(1, &incoming)));
    }
    assert!(rooms.list().is_empty());
}

#[tokio::test]
async fn a_backup_of_a_member_is_the_same_member() {
    let events = Events::new();
    let mut told = events.subscribe(Filter::default());
    let rooms = Rooms::new(events);
    let incoming = IncomingStream::empty();
    for id in [1, 2] {
        rooms.published("kitchen~ann", Some(publishing(id, &incoming)));
    }
    rooms.published("kitchen~bob", Some(publishing(3, &incoming)));
    rooms.published("kitchen~ann", None);
    for (kind, member) in [
        ("room.member_joined", "ann"),
        ("room.member_joined", "bob"),
        ("room.member_left", "ann"),
    ] {
        let event = told.next().await;
        let of = |field: &str| event[field].as_str().expect("it is text").to_owned();
        assert_eq!(
            (of("event"), of("member")),
            (kind.to_owned(), member.to_owned())
        );
        assert_eq!(
            (of("room"), of("stream")),
            ("kitchen".to_owned(), format!("kitchen~{member}"))
        );
    }
    let room = rooms.get("kitchen").expect("Bob is there");
    assert_eq!(room.member_list.len(), 1);
    assert!(rooms.get("cellar").is_none());
}
