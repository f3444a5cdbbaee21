//! Checks the server's relay, which connects peers without a direct path.

use crate::cli::findings::{Finding, with_causes};
use sleap_rtc_signaling::client::Relay;

pub(crate) async fn check(relay: Option<&Relay>) -> Finding {
    let Some(relay) = relay else {
        return Finding::warn(
            "relay",
            "the server has no relay: peers without a direct path cannot connect",
            "switch it on with `[signaling] relay = true`, or update the server",
        );
    };
    match relay.probe().await {
        Ok(took) => {
            let says = format!("{} answers in {} ms", relay.url, took.as_millis());
            Finding::ok("relay", says)
        }
        Err(error) => {
            let advice = error.advice().unwrap_or_else(|| {
                "a proxy in front of the server must pass /relay, /ping and /generate_204 of its host"
                    .to_owned()
            });
            Finding::fail("relay", with_causes(&error), advice)
        }
    }
}
