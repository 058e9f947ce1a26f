//! Element ids of Matroska that are read (RFC 9559 5), and the EBML ones (RFC 8794 11).

pub(super) const EBML: u32 = 0x1a45_dfa3;
pub(super) const EBML_MAX_ID_LENGTH: u32 = 0x42f2;
pub(super) const EBML_MAX_SIZE_LENGTH: u32 = 0x42f3;
pub(super) const DOC_TYPE: u32 = 0x4282;
pub(super) const VOID: u32 = 0xec;
pub(super) const CRC_32: u32 = 0xbf;

pub(super) const SEGMENT: u32 = 0x1853_8067;
pub(super) const SEEK_HEAD: u32 = 0x114d_9b74;
pub(super) const SEEK: u32 = 0x4dbb;
pub(super) const SEEK_ID: u32 = 0x53ab;
pub(super) const SEEK_POSITION: u32 = 0x53ac;
pub(super) const INFO: u32 = 0x1549_a966;
pub(super) const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
pub(super) const TRACKS: u32 = 0x1654_ae6b;
pub(super) const CUES: u32 = 0x1c53_bb6b;
pub(super) const CHAPTERS: u32 = 0x1043_a770;
pub(super) const ATTACHMENTS: u32 = 0x1941_a469;
pub(super) const TAGS: u32 = 0x1254_c367;

pub(super) const CLUSTER: u32 = 0x1f43_b675;
pub(super) const TIMESTAMP: u32 = 0xe7;
pub(super) const SILENT_TRACKS: u32 = 0x5854;
pub(super) const POSITION: u32 = 0xa7;
pub(super) const PREV_SIZE: u32 = 0xab;
pub(super) const SIMPLE_BLOCK: u32 = 0xa3;
pub(super) const ENCRYPTED_BLOCK: u32 = 0xaf;
pub(super) const BLOCK_GROUP: u32 = 0xa0;
pub(super) const BLOCK: u32 = 0xa1;
pub(super) const BLOCK_DURATION: u32 = 0x9b;
pub(super) const REFERENCE_BLOCK: u32 = 0xfb;
pub(super) const DISCARD_PADDING: u32 = 0x75a2;
pub(super) const BLOCK_ADDITIONS: u32 = 0x75a1;
pub(super) const BLOCK_MORE: u32 = 0xa6;
pub(super) const BLOCK_ADDITIONAL: u32 = 0xa5;

pub(super) const TRACK_ENTRY: u32 = 0xae;
pub(super) const TRACK_NUMBER: u32 = 0xd7;
pub(super) const TRACK_TYPE: u32 = 0x83;
pub(super) const FLAG_ENABLED: u32 = 0xb9;
pub(super) const FLAG_DEFAULT: u32 = 0x88;
pub(super) const FLAG_FORCED: u32 = 0x55aa;
pub(super) const FLAG_HEARING_IMPAIRED: u32 = 0x55ab;
pub(super) const DEFAULT_DURATION: u32 = 0x23_e383;
pub(super) const TRACK_TIMESTAMP_SCALE: u32 = 0x23_314f;
pub(super) const NAME: u32 = 0x536e;
pub(super) const LANGUAGE: u32 = 0x22_b59c;
pub(super) const LANGUAGE_BCP47: u32 = 0x22_b59d;
pub(super) const CODEC_ID: u32 = 0x86;
pub(super) const CODEC_PRIVATE: u32 = 0x63a2;
pub(super) const CODEC_DELAY: u32 = 0x56aa;
pub(super) const BLOCK_ADDITION_MAPPING: u32 = 0x41e4;
pub(super) const BLOCK_ADD_ID_TYPE: u32 = 0x41e7;
pub(super) const BLOCK_ADD_ID_EXTRA_DATA: u32 = 0x41ed;

pub(super) const VIDEO: u32 = 0xe0;
pub(super) const PIXEL_WIDTH: u32 = 0xb0;
pub(super) const PIXEL_HEIGHT: u32 = 0xba;
pub(super) const PIXEL_CROP_BOTTOM: u32 = 0x54aa;
pub(super) const PIXEL_CROP_TOP: u32 = 0x54bb;
pub(super) const PIXEL_CROP_LEFT: u32 = 0x54cc;
pub(super) const PIXEL_CROP_RIGHT: u32 = 0x54dd;
pub(super) const DISPLAY_WIDTH: u32 = 0x54b0;
pub(super) const DISPLAY_HEIGHT: u32 = 0x54ba;
pub(super) const DISPLAY_UNIT: u32 = 0x54b2;
pub(super) const COLOUR: u32 = 0x55b0;
pub(super) const MATRIX_COEFFICIENTS: u32 = 0x55b1;
pub(super) const RANGE: u32 = 0x55b9;
pub(super) const TRANSFER_CHARACTERISTICS: u32 = 0x55ba;
pub(super) const PRIMARIES: u32 = 0x55bb;
pub(super) const MAX_CLL: u32 = 0x55bc;
pub(super) const MAX_FALL: u32 = 0x55bd;
pub(super) const MASTERING_METADATA: u32 = 0x55d0;
/// Red, green, blue and white x and y, then the greatest and the least luminance: ten ids in a row.
pub(super) const PRIMARY_R_CHROMATICITY_X: u32 = 0x55d1;
pub(super) const LUMINANCE_MIN: u32 = 0x55da;

pub(super) const AUDIO: u32 = 0xe1;
pub(super) const SAMPLING_FREQUENCY: u32 = 0xb5;
pub(super) const CHANNELS: u32 = 0x9f;

pub(super) const CONTENT_ENCODINGS: u32 = 0x6d80;
pub(super) const CONTENT_ENCODING: u32 = 0x6240;
pub(super) const CONTENT_ENCODING_SCOPE: u32 = 0x5032;
pub(super) const CONTENT_COMPRESSION: u32 = 0x5034;
pub(super) const CONTENT_COMP_ALGO: u32 = 0x4254;
pub(super) const CONTENT_COMP_SETTINGS: u32 = 0x4255;
pub(super) const CONTENT_ENCRYPTION: u32 = 0x5035;

/// True for the elements that stand directly in a Segment (RFC 9559 5.1): they end a cluster of unknown size.
pub(super) fn is_segment_child(id: u32) -> bool {
    matches!(
        id,
        SEEK_HEAD | INFO | TRACKS | CUES | CHAPTERS | ATTACHMENTS | TAGS | CLUSTER
    )
}

/// True for the elements that stand in a Cluster (RFC 9559 5.1.3), deprecated ones included.
pub(super) fn is_cluster_child(id: u32) -> bool {
    matches!(
        id,
        TIMESTAMP | SILENT_TRACKS | POSITION | PREV_SIZE | SIMPLE_BLOCK | ENCRYPTED_BLOCK | BLOCK_GROUP | VOID | CRC_32
    )
}
