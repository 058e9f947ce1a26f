//! MPEG-2 transport streams (ISO/IEC 13818-1): segments out, sources in, and HLS packed audio.
//!
//! Pure: a segment is built from samples alone, so the same samples always give the same bytes.

mod adts;
pub mod demux;
mod elementary;
pub mod mux;
pub mod packed_audio;
mod psi;
mod sample_aes;
#[cfg(test)]
mod testing;

/// Bytes of a transport packet (ISO/IEC 13818-1 2.4.3.2).
pub(crate) const PACKET_SIZE: usize = 188;

/// First byte of every transport packet.
pub(crate) const SYNC_BYTE: u8 = 0x47;

/// Bytes that follow the four of the packet header.
pub(crate) const PAYLOAD_SIZE: usize = PACKET_SIZE - 4;

/// Where 33-bit time stamps start again, in ticks of 90 kHz: after 26.5 hours.
pub const TIMESTAMP_WRAP: i64 = 1 << 33;

/// A 90 kHz time as the 33 bits a stream can carry.
pub(crate) fn wrapped(ticks_90k: i64) -> u64 {
    ticks_90k.rem_euclid(TIMESTAMP_WRAP).unsigned_abs()
}

/// What is wrong with one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleFault {
    /// A NAL unit, or its length, reaches past the end of the sample.
    #[error("NAL unit at byte {offset} wants {want} bytes, has {have}")]
    NalLength {
        /// Where in the sample.
        offset: usize,
        /// Bytes it claims.
        want: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// The stream has no room for a frame of this size.
    #[error("{size} bytes, at most {size_max} can be carried")]
    TooLarge {
        /// Bytes of the sample.
        size: usize,
        /// Bytes it may have.
        size_max: usize,
    },
    /// A picture whose slices sample encryption does not know would go out in the clear.
    #[error("no slice that sample encryption knows")]
    NoSlice,
    /// No whole syncframe of AC-3 or E-AC-3 where one is to be encrypted.
    #[error("no whole syncframe at byte {offset}")]
    Syncframe {
        /// Where in the sample.
        offset: usize,
    },
    /// Its presentation time lies before its decode time.
    #[error("presented {ticks_90k} ticks of 90 kHz before it is decoded")]
    PresentedBeforeDecoded {
        /// By how much.
        ticks_90k: i64,
    },
}
