//! The key of this device. Its public half is the id by which other devices know this one.

use iroh::SecretKey;
use sleap_rtc_base::file::create;
use sleap_rtc_base::lock;
use sleap_rtc_trust::device;
use std::fs::File;
use std::io;
use std::path::Path;

const FILE: &str = "device.key";
const LOCK: &str = "device.lock";

/// The device's key, and the right to be reached under it. Of several programs that share a folder,
/// only the first one has the folder's key, because a relay accepts one connection per key.
#[derive(Debug)]
pub struct EndpointKey {
    pub(crate) secret: SecretKey,
    _lock: Option<File>,
}

impl EndpointKey {
    /// The key in `folder`, which must exist. Creates it at the first call. Returns a fresh key
    /// while another program uses this one.
    ///
    /// # Errors
    /// The folder cannot be used, or the file holds no key.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let path = folder.join(LOCK);
        let lock = File::create(&path)?;
        match lock::exclusive(&lock, &path) {
            Ok(_) => Ok(Self { secret: load(&folder.join(FILE))?, _lock: Some(lock) }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Self::fresh()),
            Err(error) => Err(error),
        }
    }

    /// A key for this process alone.
    pub fn fresh() -> Self {
        Self { secret: SecretKey::generate(), _lock: None }
    }

    /// The id of this key: 64 hexadecimal digits.
    pub fn id(&self) -> String {
        self.secret.public().to_string()
    }
}

/// The key of this device, to sign with. `folder` has one file with it, which any number of
/// programs may use at once.
///
/// # Errors
/// The folder cannot be used, or the file holds no key.
pub fn device_key(folder: &Path) -> io::Result<device::DeviceKey> {
    let secret = load(&folder.join(FILE))?;
    Ok(device::DeviceKey::from_bytes(secret.to_bytes()))
}

fn load(path: &Path) -> io::Result<SecretKey> {
    match std::fs::read(path) {
        Ok(bytes) => <[u8; 32]>::try_from(bytes.as_slice()).map(SecretKey::from).map_err(|_| {
            let text = format!("{} holds no key; delete it to get a new one", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = SecretKey::generate();
            // Another program may create one at the same time: the first one counts.
            create(path, &secret.to_bytes())?;
            load(path)
        }
        Err(error) => Err(error),
    }
}
