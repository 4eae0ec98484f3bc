//! Answers to the offers of real clients, checked with a parser that is not ours (`webrtc-sdp`),
//! and what becomes of offers that are wrong or hostile.

#![allow(clippy::unwrap_used)] // a failed unwrap is the failed test
#![allow(missing_docs)]

mod clients;
mod conformance;
mod fixtures;
mod golden;
mod hostile;
mod redundancy;
mod refusals;
