//! Connections to peers, and the two dialects on top of them.
//!
//! | module | what it does |
//! |---|---|
//! | [`quic`] | connections between our own programs, over iroh |
//! | [`rtc`] | peer connections and data channels, over WebRTC |
//! | [`dialect`] | a connection that speaks `sleap-rtc/1`: where these and `transfer` meet |
//! | [`python`] | a data channel that speaks the Python dialect |
//! | [`route`] | the route of a connection: direct or relayed, and why |
//! | [`binding`] | what ties a proof of identity to one connection |
//! | [`stun`] | this machine's public address |
//!
//! Two peers in one process, over loopback:
//!
//! ```
//! use sleap_rtc_base::ice::IceConfig;
//! use sleap_rtc_net::rtc::{self, Message, RtcOptions};
//! use sleap_rtc_protocol::signaling::IceServers;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let bind = vec!["127.0.0.1".parse()?];
//! let ice = IceConfig { servers: Vec::new(), bind, ..IceConfig::default() };
//! let options = RtcOptions::new(&ice, &IceServers::default());
//! let (offering, offer) = rtc::offer(&options).await?;
//! let (answerer, answer) = rtc::answer(&options, &offer).await?;
//! let (accepted, far) = tokio::join!(offering.accept(&answer), answerer.next_channel());
//! let ((_offerer, near), far) = (accepted?, far.ok_or("the connection closed")?);
//! near.send_text("hello".into()).await?;
//! assert_eq!(far.recv().await, Some(Message::Text("hello".into())));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod binding;
pub mod dialect;
pub mod python;
pub mod quic;
pub mod route;
pub mod rtc;
pub mod stun;
