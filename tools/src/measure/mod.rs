//! What is counted, and how much it cost: totals of the viewers, and the system's accounts of CPU
//! time, memory and dropped datagrams.

pub mod joining;
pub mod moment;
pub mod system;
pub mod totals;
