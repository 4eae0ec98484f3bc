//! Once open, the io_uring backend allocates nothing, whatever passes through it.
#![allow(clippy::unwrap_used)] // A panic is the failure report.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};

use fanmill_engine::io::uring::{UringConfig, UringIo};
use fanmill_engine::io::{Io, Rx, Tx};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the count is a
// thread-local integer that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the system allocator's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One turn of a shard: wait, echo what came with a train beside it, send.
fn turn(io: &mut UringIo, elsewhere: SocketAddr) -> usize {
    let deadline_us = io.now_us() + 10_000_000;
    io.poll(Some(deadline_us)).unwrap();
    let mut received = 0;
    let (rx, tx) = io.split();
    rx.drain(|datagram| {
        received += 1;
        let len = datagram.payload.len();
        tx.reserve(len).copy_from_slice(datagram.payload);
        tx.commit(datagram.source, len, None);
        tx.reserve(12_345).fill(7);
        tx.commit(elsewhere, 12_345, Some(1200));
        // The kernel refuses this one, which takes the way of single segments.
        tx.reserve(3_000).fill(7);
        tx.commit(SocketAddr::from(([127, 0, 0, 1], 0)), 3_000, Some(1200));
    });
    tx.flush();
    received
}

#[test]
fn an_open_backend_allocates_nothing() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = UringConfig::new(loopback);
    // Few enough that the kernel also runs out of buffers in this test.
    config.receive_slots = 16;
    let (mut io, grants) = UringIo::open(config).unwrap();
    let client = UdpSocket::bind(loopback).unwrap();
    let elsewhere = UdpSocket::bind(loopback).unwrap().local_addr().unwrap();
    let before = ALLOCATIONS.get();
    for round in 0..50 {
        let burst = 1 + round % 40;
        for _ in 0..burst {
            client.send_to(&[1; 500], grants.local_address).unwrap();
        }
        let mut received = 0;
        while received < burst {
            received += turn(&mut io, elsewhere);
        }
        io.waker().wake();
        turn(&mut io, elsewhere);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    let counters = io.counters();
    assert!(
        counters.send.trains > 0 && counters.send.trains_refused > 0,
        "{counters:?}"
    );
    assert!(
        counters.receive.no_buffers > 0 && counters.wakes > 0,
        "{counters:?}"
    );
    let control = Box::new(0u8);
    assert!(ALLOCATIONS.get() > before, "the count counts {control}");
}
