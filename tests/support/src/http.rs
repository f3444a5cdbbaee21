//! HTTP requests of the tests themselves.

use crate::SOON;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

/// Posts `body` and returns the status code and the JSON of the answer (`null` if it has none).
pub fn post(server: SocketAddr, path: &str, bearer: Option<&str>, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let authorization = bearer.map(|token| format!("Authorization: Bearer {token}\r\n"));
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        authorization.unwrap_or_default(),
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status code"), serde_json::from_str(body).unwrap_or(Value::Null))
}
