//! Every upper bound of the packager, with the reason for each.
//!
//! A count or length read from a file is checked against the bytes that are left *and* against the bound here, before
//! anything is allocated for it.

/// Longest `moov` (or Matroska header section) read into memory: a 12 h file at 60 fps needs about 40 MiB.
pub const MOOV_SIZE_BYTES_MAX: u64 = 64 << 20;

/// Longest single `moof` read into memory; 8,192 samples with every optional field need 0.2 MiB.
pub const MOOF_SIZE_BYTES_MAX: u64 = 8 << 20;

/// Movie fragments indexed in one file: 24 h of one-second fragments for 8 tracks.
pub const FRAGMENT_COUNT_MAX: usize = 1_000_000;

/// Samples in one track: 24 h at 120 fps is 10.4 million; audio at 96 kHz in short frames stays below this too.
pub const SAMPLE_COUNT_MAX: usize = 50_000_000;

/// Samples in all tracks of one file together, so that a small file can not ask for minutes of work: a day of video at
/// 120 fps with twenty audio tracks.
pub const FILE_SAMPLE_COUNT_MAX: usize = 100_000_000;

/// Boxes on the top level of one file: four to a fragment.
pub const TOP_LEVEL_BOX_COUNT_MAX: usize = 4 * FRAGMENT_COUNT_MAX;

/// One sample; an 8K intra frame stays below.
pub const SAMPLE_SIZE_BYTES_MAX: u32 = 32 << 20;

/// Nesting of boxes; real files use 9 levels.
pub const BOX_DEPTH_MAX: usize = 16;

/// Tracks read from one file.
pub const TRACK_COUNT_MAX: usize = 64;

/// Entries of one edit list that are looked at.
pub const EDIT_COUNT_MAX: usize = 1_024;

/// Ticks per second: 2^32-1 is allowed by the field, but times in it must survive multiplication by 90,000 in 128 bits.
pub const TIMESCALE_MAX: u32 = u32::MAX;

/// Longest sample entry (codec configuration included).
pub const SAMPLE_ENTRY_SIZE_BYTES_MAX: usize = 64 << 10;

/// How long a presentation may last, in seconds: a week. Cut every second that is 604,800 segments a track, where a
/// single sample may claim to last 136 years.
pub const PRESENTATION_DURATION_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// Samples in one segment; 20 s at 240 fps is 4,800, 20 s of 2.5 ms Opus is 8,000.
pub const SEGMENT_SAMPLE_COUNT_MAX: usize = 65_536;

/// Bytes in one segment that is built in memory (MPEG-TS): 20 s at 100 Mb/s.
pub const SEGMENT_SIZE_BYTES_MAX: u64 = 256 << 20;

/// Text file (WebVTT, SRT, TTML) read whole.
pub const TEXT_SIZE_BYTES_MAX: u64 = 16 << 20;

/// Cues in one text track.
pub const CUE_COUNT_MAX: usize = 200_000;

/// Bytes of a transport stream that may be passed over in search of packets.
pub const TS_RESYNC_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a transport stream in which its first program map must come: seconds of the fastest multiplex.
pub const TS_MAP_SEARCH_SIZE_BYTES_MAX: u64 = 64 << 20;

/// Bytes of unfinished samples that a transport stream's demuxer holds for all tracks: a few of the largest.
pub const TS_HELD_SIZE_BYTES_MAX: usize = 128 << 20;

/// Characters of one encoded grant: a path segment of every URL that a viewer asks for.
pub const GRANT_SIZE_BYTES_MAX: usize = 1_024;

/// Entries of one list in a grant: audiences, methods, schemes, cookie parameters.
pub const GRANT_LIST_COUNT_MAX: usize = 16;

/// Bytes of the name of a grant's key: `kid`.
pub const GRANT_KEY_NAME_SIZE_BYTES_MAX: usize = 32;

/// Keys that one period's signalling names: audio and four classes of pictures, with room for keys of others.
pub const SIGNALLED_KEY_COUNT_MAX: usize = 64;

/// Key periods of one title: a ten-hour film with other keys every three minutes.
pub const KEY_PERIOD_COUNT_MAX: usize = 256;

/// Entries of ALLOWED-CPC for one class of tracks: a few for each DRM system.
pub const OUTPUT_RULE_COUNT_MAX: usize = 32;

/// `pssh` boxes read in a row.
pub const PSSH_COUNT_MAX: usize = 64;

/// Data of one `pssh`; the largest known is a PlayReady object.
pub const PSSH_DATA_SIZE_BYTES_MAX: usize = 64 << 10;

/// A PlayReady object: what its specification allows.
pub const PLAYREADY_OBJECT_SIZE_BYTES_MAX: usize = 15 << 10;

/// Body of a Clear Key licence request; all keys of a title need 2 KiB.
pub const LICENCE_REQUEST_SIZE_BYTES_MAX: usize = 16 << 10;

/// What a `senc` box tells of one sample: its size has one byte in `saiz`. Forty subsamples with an IV of eight bytes;
/// a picture in more slices than that can not be described, so it can not be encrypted.
pub const SAMPLE_AUXILIARY_SIZE_BYTES_MAX: usize = u8::MAX as usize;

/// Encrypted samples of one file whose protection is kept, 16 bytes each beside what `senc` says: a day of video at 60 fps
/// with three audio tracks.
pub const ENCRYPTED_SAMPLE_COUNT_MAX: usize = 20_000_000;

/// Encrypted samples of one fragment, whose places are held until it is known how they are protected: a day of sound.
pub const FRAGMENT_ENCRYPTED_SAMPLE_COUNT_MAX: usize = 4_000_000;

/// What `senc` boxes of one file say together: a day of video at 60 fps in four slices.
pub const FILE_AUXILIARY_SIZE_BYTES_MAX: usize = 256 << 20;

/// Auxiliary information of one fragment or table that is read from outside its `moof` or `moov`.
pub const AUXILIARY_READ_SIZE_BYTES_MAX: u64 = 64 << 20;

/// Keys, patterns and constant IVs of one file's samples together: a new key every ten seconds for eight hours.
pub const SAMPLE_PROTECTION_COUNT_MAX: usize = 4_096;

/// Items in a list that a request chooses tracks or languages by.
pub const CHOICE_LIST_COUNT_MAX: usize = 64;

/// `thumbnails.json` read whole; a sheet takes 120 bytes of it.
pub const THUMBNAILS_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Pictures in one thumbnail track: ten hours of one every ten seconds. Longer films have them further apart.
pub const THUMBNAIL_COUNT_MAX: u32 = 3_600;

/// Width and height of one sheet of thumbnails, as JPEG can express them.
pub const SHEET_SIDE_MAX: u32 = 65_535;

/// Bytes of one sheet of thumbnails or one poster; made by ourselves they have a few hundred thousand.
pub const SHEET_SIZE_BYTES_MAX: u64 = 16 << 20;

/// Keys kept of one title: six schemes, five classes of tracks, a hundred periods and what was retired.
pub const TITLE_KEY_COUNT_MAX: usize = 4_096;

/// A title's keys as JSON: one takes about 400 bytes.
pub const TITLE_KEYS_SIZE_BYTES_MAX: usize = 4 << 20;

/// Tenants of one vault.
pub const VAULT_TENANT_COUNT_MAX: usize = 4_096;

/// A vault's first file: each tenant twice while the key encryption key changes, at most as long as a wrapped key gets.
pub const VAULT_HEAD_SIZE_BYTES_MAX: usize = 20 << 20;

/// A wrapped tenant's key: 40 bytes by AES key wrap, some hundreds by the key services that clouds offer.
pub const WRAPPED_KEY_SIZE_BYTES_MAX: usize = 1_024;
