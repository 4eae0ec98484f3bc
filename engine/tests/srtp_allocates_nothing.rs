//! SRTP and STUN allocate only when sessions are made, never for a packet.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanmill_engine::srtp::{
    MAX_TOGETHER, MasterKey, Opener, Profile, ReplayWindow, Sealer, ShortTag, SrtpError, Untagged,
    tags,
};
use fanmill_engine::stun::{
    BindingError, IntegrityKey, MAX_BINDING_ERROR_LEN, MAX_BINDING_SUCCESS_LEN, Message, parse,
    write_binding_error, write_binding_success,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use stun::agent::TransactionId;
use stun::attributes::{ATTR_USERNAME, AttrType, RawAttribute};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, Message as Oracle};
use stun::textattrs::Username;

/// The system's allocator, counting what each thread asks it for.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call is passed to `System` unchanged, and the counter neither allocates nor
// unwinds: it is a constant-initialised `Cell` without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// How often `run` allocates on this thread.
fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn sealing_and_opening_allocate_nothing() {
    for profile in Profile::ALL {
        let key = MasterKey::new(
            profile,
            &[1, 2, 3, 4].repeat(profile.key_len() / 4),
            &[5, 6].repeat(profile.salt_len() / 2),
        )
        .unwrap();
        let sealer = Sealer::new(profile, &key).unwrap();
        let opener = Opener::new(profile, &key).unwrap();
        let mut window = ReplayWindow::new();
        let mut header = [0x80, 96, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let (payload, mut sealed, mut plain) = ([7; 1200], [0; 1500], [0; 1500]);
        let allocated = allocations(|| {
            for index in 0..70_000 {
                header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
                let payload = &payload[..index as usize % 1200];
                let len = if index % 2 == 0 {
                    sealer.seal(index, &header, payload, &mut sealed)
                } else {
                    sealer.seal_parts(index, &header, &[&[1, 2], payload, &[0, 2]], &mut sealed)
                };
                let len = len.unwrap();
                let estimate = window.estimate(index as u16);
                window.check(estimate).unwrap();
                opener
                    .open(estimate, 12, &sealed[..len], &mut plain)
                    .unwrap();
                window.accept(estimate);
                sealed[len - 1] ^= 1;
                let refused = opener.open(estimate, 12, &sealed[..len], &mut plain);
                assert_eq!(refused, Err(SrtpError::AuthenticationFailed));
            }
        });
        assert_eq!(allocated, 0, "{profile}");
    }
}

#[test]
fn sealing_side_by_side_allocates_nothing() {
    let profile = Profile::Aes128CmSha1_80;
    let key = MasterKey::new(profile, &[1; 16], &[2; 14]).unwrap();
    let sealer = Sealer::new(profile, &key).unwrap();
    let header = [0x80, 96, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    let (payload, mut packet) = ([7; 1200], [0; 1500]);
    let mut made = [ShortTag::default(); MAX_TOGETHER];
    let mut seal = || {
        let len = sealer.encrypt(1, &header, &payload, &mut packet).unwrap();
        let untagged = Untagged {
            sealer: &sealer,
            index: 1,
            packet: &packet[..len - 10],
        };
        tags(&[untagged; MAX_TOGETHER], &mut made).unwrap();
    };
    // The first time the processor is asked what it has.
    seal();
    assert_eq!(allocations(|| (0..100).for_each(|_| seal())), 0);
}

#[test]
fn answering_connectivity_checks_allocates_nothing() {
    let mut check = Oracle::new();
    check
        .build(&[
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId([9; 12])),
            Box::new(Username::new(ATTR_USERNAME, "local:remote".to_owned())),
            Box::new(RawAttribute {
                typ: AttrType(0x7f00),
                length: 0,
                value: vec![1],
            }),
            Box::new(MessageIntegrity::new_short_term_integrity(
                "password".to_owned(),
            )),
            Box::new(FINGERPRINT),
        ])
        .unwrap();
    let key = IntegrityKey::new("password");
    let mapped = "[2001:db8::1]:5000".parse().unwrap();
    let mut out = [0; MAX_BINDING_SUCCESS_LEN];
    let mut error_out = [0; MAX_BINDING_ERROR_LEN];
    let allocated = allocations(|| {
        for _ in 0..100 {
            let Ok(Message::BindingRequest(request)) = parse(&check.raw) else {
                panic!("not a Binding request");
            };
            assert!(request.verify(&key));
            let id = &request.transaction_id;
            write_binding_success(&mut out, id, mapped, &key).unwrap();
            let error = BindingError::UnknownAttribute(&request.unknown_attributes);
            write_binding_error(&mut error_out, id, error, &key).unwrap();
        }
    });
    assert_eq!(allocated, 0);
}
