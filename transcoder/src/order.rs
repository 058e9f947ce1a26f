//! What a worker is told to do, and what it answers: a line of JSON in on standard input, one JSON object a line out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::input::Input;
use crate::ladder::Rendition;
use crate::loudness::Loudness;
use crate::source::{AudioSource, SourceInfo, VideoSource};

/// One piece of work in a process of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// What is read, unless the work needs no source.
    pub input: Option<Input>,
    /// Where files are written, unless there are none.
    pub folder: Option<PathBuf>,
    /// What may be used up.
    pub limits: Limits,
    /// The work.
    pub work: Work,
}

/// What a worker may use up before the system ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space.
    pub memory_bytes: u64,
    /// Processor time of all threads together.
    pub processor_s: u64,
    /// The largest file written.
    pub file_size_bytes: u64,
}

/// Kinds of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Find out what a source holds.
    Probe,
    /// Encode pictures.
    Video(VideoWork),
    /// Encode sound.
    Audio(AudioWork),
    /// Encode a second of test pictures.
    SelfTest(Rendition, String),
    /// Which encoders there are and which of them open.
    Encoders,
}

/// Pictures of a source, or of a chunk of it, as all renditions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VideoWork {
    /// The stream.
    pub video: VideoSource,
    /// What is made of it, each with its encoder's factory.
    pub renditions: Vec<(Rendition, String)>,
    /// From one key frame to the next.
    pub gop_duration_ms: u32,
    /// First instant of the chunk; `None` from the very first picture on.
    pub start_ms: Option<u64>,
    /// First instant no longer in it; `None` to the very last picture.
    pub end_ms: Option<u64>,
}

/// Sound of a source, each stream as one or more renditions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AudioWork {
    /// The streams and what is made of each.
    pub streams: Vec<(AudioSource, Vec<AudioRendition>)>,
}

/// A wanted encoding of sound: AAC-LC, where it is not passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioRendition {
    /// Channels: 1, 2 or 6.
    pub channels: u32,
    /// Samples a second.
    pub sample_rate: u32,
    /// Bits a second.
    pub bitrate_bps: u32,
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Said {
    /// How far it is.
    Progress(Progress),
    /// The end of a probe.
    Source(Box<SourceInfo>),
    /// The end of encoding: what became of each rendition, in the order of the work.
    Coded(Vec<Coded>),
    /// The end of a test: pictures coded in so many milliseconds.
    Tested(u32, u64),
    /// Factories that are installed, each with why it does not open.
    Encoders(Vec<(String, Option<String>)>),
    /// It failed, and whose fault that is; the reason is on standard error.
    Failed(Fault),
}

/// Whose fault it is that a worker failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The machine's: a file could not be read or written, as on a full disk. Later it may be.
    Machine,
    /// The work's: it fails each time, as far as the worker can tell.
    Work,
}

/// How far a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Time on the source's timeline up to which everything is coded.
    pub time_ms: u64,
    /// Time up to which everything is decoded and with the encoders, which look ahead; sound: as above.
    pub taken_ms: u64,
    /// Pictures of each rendition coded so far.
    pub frame_count: u64,
}

/// What became of one rendition: `r{n}.samples` and `r{n}.table` in the folder, and this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coded {
    /// What the decoder is set up with, in hexadecimal digits: `avcC`, `hvcC`, `av1C`, AudioSpecificConfig.
    pub codec_data: String,
    /// Sound: when its first sample is heard, in nanoseconds on the source's timeline.
    pub start_ns: Option<i64>,
    /// Sound: samples a channel that went in.
    pub input_sample_count: u64,
    /// Sound: how many of them are silence that was put before and after what the source has.
    #[serde(default)]
    pub silent_sample_counts: (u64, u64),
    /// Sound: how loud it is.
    pub loudness: Option<Loudness>,
    /// Samples that came out.
    pub sample_count: u64,
}

/// Name of the file with the samples of rendition `number`.
pub fn samples_name(number: usize) -> String {
    format!("r{number}.samples")
}

/// Name of the file with the table of rendition `number`.
pub fn table_name(number: usize) -> String {
    format!("r{number}.table")
}
