//! Both ends against each other, and against a hostile world.

mod caching;
mod flow;
mod hashing;
mod hostile;
mod packages;
mod stream_decoder;
mod ten_gigabytes;
mod zip_decoder;
mod zips;
