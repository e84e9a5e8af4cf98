//! The worker over a disk that loses power, over a real file whose process is killed, and across years.

mod kill;
mod model;
mod power;
mod script;
mod worker;
