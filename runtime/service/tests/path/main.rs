//! The whole path of requests, from bytes to bytes, on a host that is all in memory.

mod answers;
mod aside;
mod faults;
mod held;
mod judged;
mod limits;
mod streams;
mod threads;
mod world;
