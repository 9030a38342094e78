//! One case table a kernel: odd sizes, every format, edge rows; for every row of the shipped table, on every adapter, against
//! the reference. And bitwise invariance within a class.

mod attend;
mod distribution;
mod embed;
mod invariance;
mod lora;
mod matrix;
mod norm;
mod rope_write;
mod sample;
mod table;
