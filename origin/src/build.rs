//! Segments that must be built: on the thread that sends them, in steps that let others have their turn.

use std::sync::Arc;

use bytes::Bytes;
use packager::index::Extent;

use crate::Origin;
use crate::body::Delivery;
use crate::content::Content;
use crate::error::ServeError;
use crate::hot::{Entry, Hot};
use crate::read::SourceFile;
use crate::vod::parts::Parts;
use crate::vod::sealed::Sealing;
use crate::vod::ts::{Chain, Muxing, Pace};
use crate::vod::{Answer, Building};
use crate::{fetch, lanes, pool, server};

impl Origin {
    /// The answer that is a segment which must be built.
    pub(crate) async fn segment(
        self: &Arc<Origin>,
        building: Building,
        delivery: &Arc<Delivery>,
    ) -> Result<Answer, ServeError> {
        if building.has_encrypted_source()? {
            self.admit_building(delivery)?;
            return server::blocking(move || building.answer_blocking()).await;
        }
        let key = building.key()?;
        let entry = self.built.entry(&key);
        let due = self.built.is_due(&key, &entry);
        if let Some(parts) = entry.parts.get() {
            return self.known(&key, &entry, parts, due, delivery);
        }
        let turn = entry.flight.lock().await;
        if let Some(parts) = entry.parts.get() {
            return self.known(&key, &entry, parts, due, delivery);
        }
        self.admit_building(delivery)?;
        let (parts, made) = match building {
            Building::Seal(sealing) => seal(sealing, delivery, entry.hot.clone()).await?,
            Building::Mux(muxing) => mux(muxing, delivery, entry.hot.clone()).await?,
        };
        let parts = entry.parts.get_or_init(|| Arc::new(parts));
        drop(turn);
        self.built.weigh(key, &entry);
        // Where memory is short, this viewer too holds a part and not all of it.
        match pool::in_use_bytes() < self.config().limits.answer_memory_bytes_max / 2 {
            true => Ok(parts.answer_ready(made)),
            false => Ok(parts.answer()),
        }
    }

    /// The answer that makes a segment of which all is known.
    fn known(
        self: &Arc<Origin>,
        key: &str,
        entry: &Arc<Entry>,
        parts: &Arc<Parts>,
        due: bool,
        delivery: &Delivery,
    ) -> Result<Answer, ServeError> {
        if !entry.hot.is_kept() {
            self.admit_building(delivery)?;
        }
        let answer = parts.answer();
        if due {
            self.keep(key, entry, answer.content.clone());
        }
        Ok(answer)
    }

    /// Has a segment that many want kept, while this answer goes its way.
    fn keep(self: &Arc<Origin>, key: &str, entry: &Arc<Entry>, content: Content) {
        let (origin, key, entry) = (self.clone(), key.to_owned(), entry.clone());
        tokio::task::spawn_blocking(move || origin.built.keep(key, &entry, &content));
    }

    /// False when answers that are being built and sent take all the memory there is for them.
    pub(crate) fn has_room_for_building(&self) -> bool {
        pool::in_use_bytes() < self.config().limits.answer_memory_bytes_max
    }

    /// Refuses what would take more memory than that.
    pub(crate) fn admit_building(&self, delivery: &Delivery) -> Result<(), ServeError> {
        if self.has_room_for_building() {
            return Ok(());
        }
        delivery.counters.refused.add(1);
        Err(ServeError::Overloaded {
            what: "answers that are being sent hold too much memory",
        })
    }
}

/// Looks into an encrypted fragment, and makes it.
async fn seal(sealing: Sealing, delivery: &Arc<Delivery>, hot: Hot) -> Result<(Parts, Vec<Bytes>), ServeError> {
    let mut discovery = sealing.start()?;
    let whole = discovery.wanted().map(|(file, extents, follow)| {
        let window = fetch::span(&extents, follow, file);
        (file.clone(), window)
    });
    while let Some((file, extents, follow)) = discovery.wanted() {
        let file = file.clone();
        let buffer = fetch::read(delivery, &file, extents, follow).await.map_err(storage)?;
        discovery.take(buffer)?;
        tokio::task::yield_now().await;
    }
    if let Some((file, window)) = whole {
        delivery.gate.advise_next(&file, &window);
    }
    discovery.finish(hot)
}

/// Lays out a segment of MPEG-TS or packed audio, and makes it.
async fn mux(muxing: Muxing, delivery: &Arc<Delivery>, hot: Hot) -> Result<(Parts, Vec<Bytes>), ServeError> {
    if muxing.is_long() {
        return server::blocking(move || muxing.build_blocking(hot)).await;
    }
    let mut sources = Vec::new();
    for (file, extents) in muxing.sources()? {
        let window = fetch::span(&extents, 0, &file);
        sources.push(read_in_steps(delivery, &file, extents).await.map_err(storage)?);
        delivery.gate.advise_next(&file, &window);
    }
    let mut build = muxing.build(&sources, Pace::Steps).await?;
    drop(sources);
    let mut chain = None;
    if let Some((key, iv)) = muxing.whole_key()?
        && let Some(clear) = build.made.pop()
    {
        let begun = Chain::begin(&key, &build.starts, &clear);
        let encrypted = lanes::encrypt(key, iv, clear).await?;
        chain = Some(begun.learn(iv, &encrypted));
        build.made.push(encrypted);
    }
    muxing.finish(build, chain, hot)
}

fn storage(error: std::io::Error) -> ServeError {
    ServeError::Storage {
        what: error.to_string(),
    }
}

/// Reads all of `extents` into one buffer, giving others their turn after each [`READ_STEP_SIZE_BYTES`].
async fn read_in_steps(
    delivery: &Arc<Delivery>,
    file: &Arc<SourceFile>,
    extents: Vec<Extent>,
) -> std::io::Result<pool::Buffer> {
    let mut buffer = fetch::buffer(&extents);
    let mut filled = 0;
    let mut steps = steps(&extents);
    while let Some(step) = steps.next() {
        let size: usize = step.iter().map(|extent| extent.size as usize).sum();
        let part = buffer.get_mut(filled..filled + size).unwrap_or_default();
        let read = fetch::cached(file, &step, part);
        delivery.counters.read_bytes.add(read as u64);
        filled += read;
        if read < size {
            let window = fetch::span(&extents, 0, file);
            let file = file.clone();
            let wanted = fetch::Wanted { file, extents, window };
            return fetch::waiting(delivery.clone(), vec![wanted], filled, buffer).await;
        }
        if steps.len() > 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(buffer)
}

/// Bytes that are read at once: some 100 microseconds.
const READ_STEP_SIZE_BYTES: u64 = 1 << 20;

/// `extents` in steps of [`READ_STEP_SIZE_BYTES`].
fn steps(extents: &[Extent]) -> std::vec::IntoIter<Vec<Extent>> {
    let mut steps: Vec<Vec<Extent>> = Vec::new();
    let mut room = 0;
    for extent in extents {
        let mut rest = *extent;
        while rest.size > 0 {
            if room == 0 {
                steps.push(Vec::new());
                room = READ_STEP_SIZE_BYTES;
            }
            let size = rest.size.min(room);
            if let Some(step) = steps.last_mut() {
                step.push(Extent { size, ..rest });
            }
            rest.offset += size;
            rest.size -= size;
            room -= size;
        }
    }
    steps.into_iter()
}
