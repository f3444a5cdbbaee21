//! One HTTP request over a connection of its own.

use super::error::ConnectError;
use super::reach::reach;
use super::stream::within;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;
use url::{Position, Url};

/// A request to a server, which is reached as the signaling server is: through the same proxies, with trust
/// in the same certificates.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// `GET` and so on.
    pub method: Method,
    /// Where: `http:` or `https:`.
    pub url: Url,
    /// Headers, without `Host`.
    pub headers: HeaderMap,
    /// What is sent.
    pub body: Bytes,
}

/// What an answer may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerLimits {
    /// The longest body.
    pub bytes: usize,
    /// How long the exchange may take on an open connection.
    pub time: Duration,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl HttpRequest {
    /// Sends the request, and reads the whole answer.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or if its answer breaks off or goes beyond `limits`.
    pub async fn send(self, limits: AnswerLimits) -> Result<HttpAnswer, ConnectError> {
        let stream = TokioIo::new(reach(&self.url).await?);
        within(limits.time, async {
            let (mut sender, connection) = http1::handshake(stream).await?;
            let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
            let (head, body) = sender.send_request(self.request()?).await?.into_parts();
            let body = Limited::new(body, limits.bytes).collect().await;
            let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => ConnectError::Http(*error),
                Err(error) if error.is::<LengthLimitError>() => ConnectError::TooLong(limits.bytes),
                Err(_) => ConnectError::ClosedEarly,
            })?;
            Ok(HttpAnswer { status: head.status, headers: head.headers, body: body.to_bytes() })
        })
        .await?
    }

    fn request(self) -> Result<Request<Full<Bytes>>, ConnectError> {
        let Self { method, url, mut headers, body } = self;
        let host = &url[Position::BeforeHost..Position::AfterPort];
        headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| ConnectError::NoAddress)?);
        let request = Request::builder().method(method).uri(&url[Position::BeforePath..]);
        let mut request = request.body(Full::new(body)).map_err(|_| ConnectError::NoAddress)?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}
