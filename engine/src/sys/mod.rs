//! What the kernel offers, one feature a file, behind safe functions.
//!
//! This is the only place besides the packet pool and the hash in lanes where `unsafe` appears. It knows system calls,
//! socket options and the memory that the kernel reads and writes on its own; it knows no policy
//! (that is [`crate::io::uring`], its only caller) and never looks into a payload.

pub(crate) mod affinity;
pub(crate) mod buf_ring;
pub(crate) mod cmsg;
pub(crate) mod eventfd;
pub(crate) mod gro;
pub(crate) mod gso;
pub(crate) mod kernel;
pub(crate) mod received;
pub(crate) mod region;
pub(crate) mod ring;
pub(crate) mod send_table;
pub(crate) mod sockaddr;
pub(crate) mod socket;
pub(crate) mod timestamp;
