//! Everything that a browser runs.
//!
//! | module | contents |
//! |---|---|
//! | `app` | the page: takes messages, changes what it knows, and shows it |
//! | `model` | what the page knows |
//! | `message` | what can happen |
//! | `view` | how it looks |
//! | `dom` | brings a view into the document |
//! | `key` | what opens a room |
//! | `pairing` | joins a room by a code |
//! | `store` | what the browser remembers |
//! | `parcel`, `dropped` | files that the user gives |
//! | `prediction` | a prediction that is put together |
//! | `database` | what the browser keeps on its disk |
//! | `room`, `socket`, `http` | the signaling server |
//! | `connect`, `rtc`, `talk` | conversations with workers |
//! | `job` | one job, from package to result |
//! | `engine` | reads, hashes and unpacks files in a thread of its own |
//! | `save` | saves files |
//! | `clock`, `random` | the browser's clock and its random numbers |

mod app;
mod clock;
mod connect;
mod database;
mod dom;
mod dropped;
mod engine;
mod http;
mod job;
mod key;
mod message;
mod model;
mod pairing;
mod parcel;
mod prediction;
mod random;
mod room;
mod rtc;
mod save;
mod socket;
mod store;
mod talk;
mod view;

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// Starts the page. `engine` is the address of the engine's script.
#[wasm_bindgen(js_name = startPage)]
pub fn start_page(engine: &str) -> Result<(), JsValue> {
    app::start(engine)
}

/// Starts the engine, in a thread of its own.
#[wasm_bindgen(js_name = startEngine)]
pub fn start_engine() -> Result<(), JsValue> {
    engine::serve()
}
