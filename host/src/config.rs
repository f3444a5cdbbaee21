//! stub
use std::net::IpAddr;
/// stub
#[derive(Debug, Clone, Default)]
pub struct IceConfig {
    /// s
    pub servers: Vec<IceServer>,
    /// s
    pub bind: Vec<IpAddr>,
}
/// stub
#[derive(Debug, Clone, Default)]
pub struct IceServer {
    /// s
    pub urls: Vec<String>,
    /// s
    pub username: Option<String>,
    /// s
    pub credential: Option<String>,
}
