//! What holds for any demuxer: pieces do not matter, decode times grow, and what is stored of it can be served.

use bytes::Bytes;
use packager::demux::{DemuxError, Demuxer, Packet};
use packager::index::{IndexWriter, NewSample};
use packager::source::SourceTracks;
use packager::track::Track;

/// Takes `data` apart as a whole and in pieces, and serves what it holds.
pub fn check<D: Demuxer>(new: impl Fn() -> D, data: &[u8]) {
    let mut demuxer = new();
    let whole = packets_of(&mut demuxer, std::iter::once(data));
    let sizes = data.iter().step_by(7).map(|byte| usize::from(*byte) + 1);
    let in_pieces = packets_of(&mut new(), pieces(data, sizes));
    assert_eq!(in_pieces.is_ok(), whole.is_ok(), "{in_pieces:?} and {whole:?}");
    let Ok(packets) = whole else { return };
    let in_pieces = in_pieces.unwrap_or_default();
    for (in_piece, packet) in in_pieces.iter().zip(&packets) {
        assert_eq!(in_piece, packet);
    }
    assert_eq!(in_pieces.len(), packets.len());

    let (source, found) = stored(&demuxer, packets);
    crate::presentation::check(&source, found);
}

fn packets_of<'a, D: Demuxer>(
    demuxer: &mut D,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Packet>, DemuxError> {
    let mut packets = Vec::new();
    for piece in pieces {
        demuxer.push(piece, &mut packets)?;
    }
    demuxer.finish(&mut packets)?;
    Ok(packets)
}

fn pieces(mut data: &[u8], mut sizes: impl Iterator<Item = usize>) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let size = sizes.next().unwrap_or(data.len()).min(data.len());
        let (piece, rest) = data.split_at(size);
        data = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Packets back to back, and an index of each track whose times fit one.
fn stored(demuxer: &dyn Demuxer, packets: Vec<Packet>) -> (Bytes, SourceTracks) {
    let mut source = Vec::new();
    let mut samples: Vec<Vec<(Packet, u64)>> = vec![Vec::new(); demuxer.tracks().len()];
    for packet in packets {
        let offset = source.len() as u64;
        source.extend_from_slice(&packet.data);
        let track = &mut samples[packet.track];
        if let Some((previous, _)) = track.last() {
            assert!(packet.decode_time > previous.decode_time, "decode times grow");
        }
        track.push((packet, offset));
    }
    let mut found = SourceTracks {
        refused: demuxer.refused().to_vec(),
        ..SourceTracks::default()
    };
    for (track, samples) in demuxer.tracks().iter().zip(&samples) {
        let Some(description) = &track.description else {
            continue;
        };
        let mut writer = IndexWriter::new(description.timescale);
        let whole = samples.iter().enumerate().try_for_each(|(position, (packet, offset))| {
            let next = samples.get(position + 1).map(|(next, _)| next.decode_time);
            let last = i64::from(packet.duration.unwrap_or(1));
            let until_next = next.map_or(last, |next| next.saturating_sub(packet.decode_time));
            writer
                .push(NewSample {
                    offset: *offset,
                    size: packet.data.len() as u32,
                    duration: u32::try_from(until_next).ok()?,
                    composition_offset: i32::try_from(packet.presentation_time.saturating_sub(packet.decode_time))
                        .ok()?,
                    sync: packet.sync,
                })
                .ok()
        });
        let first_decode_time = samples.first().map_or(0, |(first, _)| first.decode_time);
        if let (Some(()), Ok(index)) = (whole, writer.finish(track.media_time.saturating_sub(first_decode_time))) {
            found.tracks.push(Track {
                description: description.clone(),
                index,
            });
        }
    }
    (source.into(), found)
}
