//! Loudness of a programme: ITU-R BS.1770-4 and EBU R 128 (gated, integrated), EBU Tech 3342 (range). Pure.
//!
//! Signals are numbers without scale, so this is the one place that computes with floats; what comes out is rounded to
//! hundredths.

use serde::{Deserialize, Serialize};

/// Blocks are measured in steps of this.
const STEP_MS: u32 = 100;
/// Steps of a momentary block (400 ms) and of a short-term one (3 s).
const MOMENTARY_STEPS: usize = 4;
const SHORT_TERM_STEPS: usize = 30;
/// Below this nothing counts, in LUFS.
const ABSOLUTE_GATE: f64 = -70.0;

/// Loudness of all of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loudness {
    /// Integrated loudness, in hundredths of LUFS; `None` for silence.
    pub integrated_centi_lufs: Option<i32>,
    /// Loudness range, in hundredths of LU.
    pub range_centi_lu: i32,
    /// Highest sample, in hundredths of dBFS; `None` for silence.
    pub sample_peak_centi_db: Option<i32>,
}

/// A filter of second order (direct form I), and what it remembers.
#[derive(Clone, Copy)]
struct Biquad {
    b: [f64; 3],
    a: [f64; 2],
    x: [f64; 2],
    y: [f64; 2],
}

impl Biquad {
    fn new(b: [f64; 3], a0: f64, a: [f64; 2]) -> Biquad {
        Biquad {
            b: b.map(|b| b / a0),
            a: a.map(|a| a / a0),
            x: [0.0; 2],
            y: [0.0; 2],
        }
    }

    fn run(&mut self, x: f64) -> f64 {
        let [b0, b1, b2] = self.b;
        let y = b0 * x + b1 * self.x[0] + b2 * self.x[1] - self.a[0] * self.y[0] - self.a[1] * self.y[1];
        self.x = [x, self.x[0]];
        self.y = [y, self.y[0]];
        y
    }

    /// The head's effect: +4 dB above 1.7 kHz. At 48 kHz these are the numbers of BS.1770-4 table 1.
    fn shelf(sample_rate: f64) -> Biquad {
        let k = (std::f64::consts::PI * 1_681.974_450_955_533 / sample_rate).tan();
        let q = 0.707_175_236_955_419_6;
        let high = 10f64.powf(3.999_843_853_973_347 / 20.0);
        let band = high.powf(0.499_666_774_154_541_6);
        Biquad::new(
            [
                high + band * k / q + k * k,
                2.0 * (k * k - high),
                high - band * k / q + k * k,
            ],
            1.0 + k / q + k * k,
            [2.0 * (k * k - 1.0), 1.0 - k / q + k * k],
        )
    }

    /// RLB weighting: little below 100 Hz. At 48 kHz these are the numbers of BS.1770-4 table 2.
    fn high_pass(sample_rate: f64) -> Biquad {
        let k = (std::f64::consts::PI * 38.135_470_876_024_44 / sample_rate).tan();
        let q = 0.500_327_037_323_877_3;
        let mut filter = Biquad::new(
            [1.0, -2.0, 1.0],
            1.0 + k / q + k * k,
            [2.0 * (k * k - 1.0), 1.0 - k / q + k * k],
        );
        // Table 2 leaves the numerator as it is.
        filter.b = [1.0, -2.0, 1.0];
        filter
    }
}

/// Measures interleaved samples as they pass.
pub struct Meter {
    channels: Vec<(Biquad, Biquad, f64)>,
    step_length: u32,
    step_position: u32,
    step_sum: f64,
    /// Weighted energy of each step.
    steps: Vec<f64>,
    peak: f32,
}

impl Meter {
    /// For sound with `channels` at `sample_rate`; of six channels the fourth is LFE, which does not count.
    pub fn new(channels: u32, sample_rate: u32) -> Meter {
        let rate = f64::from(sample_rate.max(1));
        let weight = |channel: u32| match (channels, channel) {
            (6, 3) => 0.0,
            (6, 4 | 5) => 1.41,
            _ => 1.0,
        };
        Meter {
            channels: (0..channels)
                .map(|channel| (Biquad::shelf(rate), Biquad::high_pass(rate), weight(channel)))
                .collect(),
            step_length: (sample_rate * STEP_MS / 1_000).max(1),
            step_position: 0,
            step_sum: 0.0,
            steps: Vec::new(),
            peak: 0.0,
        }
    }

    /// Takes the next samples: little-endian 32-bit floats, interleaved.
    pub fn push(&mut self, bytes: &[u8]) {
        let samples = bytes.as_chunks::<4>().0;
        for frame in samples.chunks_exact(self.channels.len().max(1)) {
            for (sample, (shelf, high_pass, weight)) in frame.iter().zip(&mut self.channels) {
                let sample = f32::from_le_bytes(*sample);
                if !sample.is_finite() {
                    continue;
                }
                self.peak = self.peak.max(sample.abs());
                let heard = high_pass.run(shelf.run(f64::from(sample)));
                self.step_sum += heard * heard * *weight;
            }
            self.step_position += 1;
            if self.step_position == self.step_length {
                self.steps.push(self.step_sum / f64::from(self.step_length));
                (self.step_position, self.step_sum) = (0, 0.0);
            }
        }
    }

    /// The loudness of all that was pushed.
    pub fn finish(&self) -> Loudness {
        let centi = |value: f64| (value * 100.0).round() as i32;
        let momentary = above(blocks(&self.steps, MOMENTARY_STEPS, 1), ABSOLUTE_GATE);
        let integrated = mean(&momentary)
            .map(|mean| above(momentary.iter().copied(), loudness(mean) - 10.0))
            .and_then(|gated| mean(&gated))
            .map(|mean| centi(loudness(mean)));
        let short = above(blocks(&self.steps, SHORT_TERM_STEPS, MOMENTARY_STEPS), ABSOLUTE_GATE);
        let mut ranged: Vec<f64> = mean(&short)
            .map(|mean| above(short.iter().copied(), loudness(mean) - 20.0))
            .unwrap_or_default();
        ranged.sort_by(f64::total_cmp);
        let at = |percent: usize| ranged.get((ranged.len().saturating_sub(1) * percent + 50) / 100);
        let range = at(10)
            .zip(at(95))
            .map_or(0.0, |(low, high)| loudness(*high) - loudness(*low));
        Loudness {
            integrated_centi_lufs: integrated,
            range_centi_lu: centi(range),
            sample_peak_centi_db: (self.peak > 0.0).then(|| centi(20.0 * f64::from(self.peak).log10())),
        }
    }
}

fn loudness(energy: f64) -> f64 {
    -0.691 + 10.0 * energy.log10()
}

/// Mean energies of `length` steps in a row, every `stride` steps.
fn blocks(steps: &[f64], length: usize, stride: usize) -> impl Iterator<Item = f64> {
    steps
        .windows(length)
        .step_by(stride)
        .map(move |block| block.iter().sum::<f64>() / length as f64)
}

fn above(energies: impl Iterator<Item = f64>, gate: f64) -> Vec<f64> {
    energies
        .filter(|energy| *energy > 0.0 && loudness(*energy) > gate)
        .collect()
}

fn mean(energies: &[f64]) -> Option<f64> {
    (!energies.is_empty()).then(|| energies.iter().sum::<f64>() / energies.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sine of 1 kHz at `level` dBFS for so many seconds, in all channels.
    fn sine(channels: u32, sample_rate: u32, parts: &[(f64, u32)]) -> Loudness {
        let mut meter = Meter::new(channels, sample_rate);
        let mut at = 0u32;
        for (level, seconds) in parts {
            let amplitude = 10f64.powf(level / 20.0);
            for _ in 0..seconds * sample_rate {
                let phase = std::f64::consts::TAU * 1_000.0 * f64::from(at) / f64::from(sample_rate);
                let sample = (amplitude * phase.sin()) as f32;
                meter.push(&sample.to_le_bytes().repeat(channels as usize));
                at += 1;
            }
        }
        meter.finish()
    }

    #[test]
    fn the_test_signals_of_the_ebu_measure_as_they_should() {
        let check = |channels, sample_rate, parts: &[(f64, u32)], lufs: i32, range: i32| {
            let measured = sine(channels, sample_rate, parts);
            let integrated = measured.integrated_centi_lufs.unwrap();
            assert!((integrated - lufs).abs() <= 10, "{parts:?}: {measured:?}");
            assert!(
                (measured.range_centi_lu - range).abs() <= 100,
                "{parts:?}: {measured:?}"
            );
        };
        // EBU Tech 3341, cases 1 and 2; 3342, case 1 (shortened).
        check(2, 48_000, &[(-23.0, 5)], -2_300, 0);
        check(2, 44_100, &[(-33.0, 5)], -3_300, 0);
        check(2, 48_000, &[(-20.0, 8), (-30.0, 8)], -2_259, 1_000);
        // One channel alone is 3 LU quieter; silence is left out, but for the blocks that it begins in.
        check(1, 48_000, &[(-23.0, 5)], -2_600, 0);
        check(2, 48_000, &[(-23.0, 6), (-200.0, 6)], -2_310, 574);
        let silent = sine(2, 48_000, &[]);
        assert_eq!(
            (silent.integrated_centi_lufs, silent.sample_peak_centi_db),
            (None, None)
        );
        assert_eq!(sine(2, 48_000, &[(-6.0, 1)]).sample_peak_centi_db, Some(-600));
    }
}
