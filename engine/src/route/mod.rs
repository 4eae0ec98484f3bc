//! Routing: from one incoming rendition to any number of viewers.
//!
//! A [`source`] turns what a publisher sends (reordered, lost, retransmitted) into one series of
//! packets without duplicates; a [`rendition`] is that series as one shard serves it, with the
//! store it answers NACKs from, as far as [`repair`] allows; a [`viewer`] is one subscription with
//! its own continuous numbering; [`plan`] prepares what viewers that negotiated alike share of a
//! burst. A [`derived`] rendition is made of some layers of another. Nothing here knows sockets; time
//! comes in as an argument.

pub(crate) mod budget;
pub(crate) mod clock;
pub(crate) mod demand;
pub(crate) mod derived;
pub(crate) mod duplicate;
pub(crate) mod gather;
pub(crate) mod keyframe;
pub(crate) mod layers;
pub(crate) mod newcomers;
pub(crate) mod plan;
pub(crate) mod remb;
pub(crate) mod rendition;
pub(crate) mod renumber;
pub(crate) mod repair;
pub(crate) mod served;
pub(crate) mod single;
pub(crate) mod source;
pub(crate) mod squeeze;
pub(crate) mod stamp;
pub(crate) mod store;
pub(crate) mod sweep;
pub(crate) mod train;
pub(crate) mod viewer;
