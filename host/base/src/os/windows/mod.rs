//! Windows.

mod files;
mod machine;
mod processes;

pub use files::*;
pub use machine::*;
pub use processes::*;
