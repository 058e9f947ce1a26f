//! Rendered playlists, MPDs and headers: one renders, the others wait; kept within a weight, with their gzip variant.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use moka::sync::Cache;

use crate::error::ServeError;
use crate::vod::{Answer, RenderKey, Rendering, etag_of};

/// Below this, an answer and its head fit into one packet: compression saves none.
const GZIP_SIZE_BYTES_MIN: usize = 1_024;

struct Rendered {
    bytes: Bytes,
    gzip: Option<Bytes>,
    etag: String,
}

/// Renderings by (media id, version, what).
pub struct RenderedCache {
    cache: Cache<(String, String, RenderKey), Arc<Rendered>>,
}

impl RenderedCache {
    /// An empty cache of at most `size_bytes_max`.
    pub fn new(size_bytes_max: u64) -> RenderedCache {
        let weight =
            |rendered: &Arc<Rendered>| rendered.bytes.len() + rendered.gzip.as_ref().map_or(0, Bytes::len) + 256;
        let cache = Cache::builder()
            .max_capacity(size_bytes_max)
            .weigher(move |_, rendered| u32::try_from(weight(rendered)).unwrap_or(u32::MAX))
            .build();
        RenderedCache { cache }
    }

    /// The answer of `rendering`, rendered now unless it is kept.
    pub fn answer(&self, media_id: &str, version: &str, rendering: Rendering) -> Result<Answer, ServeError> {
        let Rendering {
            key,
            content_type,
            cache,
            compress,
            render,
        } = rendering;
        let key = (media_id.to_owned(), version.to_owned(), key);
        let rendered = match self.cache.get(&key) {
            Some(rendered) => rendered,
            None => {
                let made = self.cache.try_get_with(key, || {
                    let bytes = render()?;
                    let gzip = if compress { gzip(&bytes) } else { None };
                    Ok(Arc::new(Rendered {
                        etag: etag_of(&bytes),
                        gzip,
                        bytes,
                    }))
                });
                made.map_err(|error: Arc<ServeError>| copy(&error))?
            }
        };
        Ok(Answer {
            content: rendered.bytes.clone().into(),
            content_type,
            etag: rendered.etag.clone(),
            cache,
            gzip: rendered.gzip.clone(),
        })
    }
}

/// Those who waited for what failed get the same failure.
pub(crate) fn copy(error: &ServeError) -> ServeError {
    match error {
        ServeError::NotFound => ServeError::NotFound,
        ServeError::Choice(error) => ServeError::Choice(error.clone()),
        other => ServeError::Damaged {
            what: other.to_string(),
        },
    }
}

fn gzip(bytes: &[u8]) -> Option<Bytes> {
    if bytes.len() < GZIP_SIZE_BYTES_MIN {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::default());
    // Writing to memory does not fail; if it ever did, the plain bytes serve as well.
    encoder.write_all(bytes).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < bytes.len()).then(|| packed.into())
}
