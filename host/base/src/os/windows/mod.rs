//! Windows.

mod files;
mod machine;
mod processes;
mod terminal;

pub use files::*;
pub use machine::*;
pub use processes::*;
pub use terminal::*;
