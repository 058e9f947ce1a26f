//! Tone mapping: what an HDR picture looks like on an SDR screen. Pure: code values in, code values out.
//!
//! Light is reckoned as BT.2100 says it is shown; what an SDR screen can not show is rolled off by the EETF of ITU-R BT.2390,
//! on the largest of the three components, so that hues stay. SDR's white is HDR's reference white (ITU-R BT.2408): 203 cd/m².
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use packager::codec::VideoRange;

/// Light of SDR's white, in cd/m².
const WHITE: f64 = 203.0;
/// Light of a source's brightest picture where it does not say.
const PEAK_DEFAULT: f64 = 1_000.0;
/// Codes of a component: ten bits, full range.
const CODE_COUNT: usize = 1 << 10;
/// Entries of tables that are looked into by a root of light.
const TABLE_SIZE: usize = 1 << 12;
/// Shares of red, green and blue in luminance (BT.2020; BT.709).
const LUMINANCE_WIDE: [f32; 3] = [0.2627, 0.6780, 0.0593];
const LUMINANCE: [f32; 3] = [0.2126, 0.7152, 0.0722];
/// Linear BT.2020 to linear BT.709 (ITU-R BT.2407 2).
const TO_NARROW: [[f32; 3]; 3] = [
    [1.660_491, -0.587_641, -0.072_85],
    [-0.124_55, 1.132_9, -0.008_349],
    [-0.018_151, -0.100_579, 1.118_73],
];

/// Constants of PQ (BT.2100 table 4).
const M1: f64 = 2_610.0 / 16_384.0;
const M2: f64 = 2_523.0 / 32.0;
const C1: f64 = 3_424.0 / 4_096.0;
const C2: f64 = 2_413.0 / 128.0;
const C3: f64 = 2_392.0 / 128.0;
/// Light of PQ's last code, in cd/m².
const PQ_PEAK: f64 = 10_000.0;

/// Light of a PQ value, in cd/m².
fn light_of_pq(value: f64) -> f64 {
    let power = value.max(0.0).powf(1.0 / M2);
    PQ_PEAK * ((power - C1).max(0.0) / (C2 - C3 * power)).powf(1.0 / M1)
}

/// PQ value of light in cd/m².
fn pq_of_light(light: f64) -> f64 {
    let power = (light.max(0.0) / PQ_PEAK).powf(M1);
    ((C1 + C2 * power) / (1.0 + C3 * power)).powf(M2)
}

/// Scene light of an HLG value, 0 to 1 (BT.2100 table 5).
fn scene_of_hlg(value: f64) -> f64 {
    const A: f64 = 0.178_832_77;
    const B: f64 = 0.284_668_92;
    const C: f64 = 0.559_910_73;
    match value <= 0.5 {
        true => value * value / 3.0,
        false => (((value - C) / A).exp() + B) / 12.0,
    }
}

/// The EETF of BT.2390-10 5.4.1, without a lift of black: light of a source that peaks at `peak`, for a screen that peaks at
/// [`WHITE`]; all in cd/m².
fn rolled_off(light: f64, peak: f64) -> f64 {
    let source = pq_of_light(peak);
    let most = pq_of_light(WHITE) / source;
    let value = (pq_of_light(light) / source).min(1.0);
    let knee = 1.5 * most - 0.5;
    if most >= 1.0 || value < knee {
        return light.min(WHITE);
    }
    let t = (value - knee) / (1.0 - knee);
    let (t2, t3) = (t * t, t * t * t);
    let rolled = (2.0 * t3 - 3.0 * t2 + 1.0) * knee + (t3 - 2.0 * t2 + t) * (1.0 - knee) + (3.0 * t2 - 2.0 * t3) * most;
    light_of_pq(rolled * source)
}

/// The mapping of one source, as tables.
pub(crate) struct ToneMap {
    /// Light of each code; in HLG that of the scene, in PQ as shown, 1 being the brightest of the source.
    light: Vec<f32>,
    /// By the fourth root of light: what light is multiplied by.
    gain: Vec<f32>,
    /// HLG: by the fourth root of the scene's luminance, what all components are multiplied by on a screen.
    screen: Option<Vec<f32>>,
    /// By the square root of light: the code.
    code: Vec<u16>,
}

/// The entry of `table` that is nearest to `place` from 0 to 1.
fn nearest(table: &[u16], place: f32) -> u16 {
    let last = table.len().saturating_sub(1);
    let at = (place.clamp(0.0, 1.0) * last as f32 + 0.5) as usize;
    table.get(at.min(last)).copied().unwrap_or(0)
}

/// The value of `table` for `place` from 0 to 1, between two entries where it lies between them.
fn between(table: &[f32], place: f32) -> f32 {
    let last = table.len().saturating_sub(1);
    let at = place.clamp(0.0, 1.0) * last as f32;
    let below = (at as usize).min(last);
    let entry = |at: usize| table.get(at.min(last)).copied().unwrap_or(1.0);
    let (low, high) = (entry(below), entry(below + 1));
    low + (high - low) * (at - below as f32)
}

impl ToneMap {
    /// For a source of this range whose brightest picture has `peak` cd/m², if it says so.
    pub(crate) fn new(range: VideoRange, peak: Option<u32>) -> ToneMap {
        // HLG is shown on a screen of 1000 cd/m², for which its gamma is 1.2.
        let peak = match (range, peak) {
            (VideoRange::Pq, Some(peak)) => f64::from(peak).clamp(WHITE, PQ_PEAK),
            _ => PEAK_DEFAULT,
        };
        let of_codes = |light: &dyn Fn(f64) -> f64| -> Vec<f32> {
            let value = |code: usize| code as f64 / (CODE_COUNT - 1) as f64;
            (0..CODE_COUNT).map(|code| light(value(code)) as f32).collect()
        };
        let places = || (0..TABLE_SIZE).map(|at| at as f64 / (TABLE_SIZE - 1) as f64);
        let is_hlg = range == VideoRange::Hlg;
        ToneMap {
            light: match is_hlg {
                true => of_codes(&scene_of_hlg),
                false => of_codes(&|value| (light_of_pq(value) / peak).min(1.0)),
            },
            gain: places()
                .map(|root| {
                    let light = root.powi(4).max(1e-12) * peak;
                    (rolled_off(light, peak) / light * peak / WHITE) as f32
                })
                .collect(),
            screen: is_hlg.then(|| places().map(|root| root.powf(0.8) as f32).collect()),
            // BT.1886, whose inverse is no more than a power for a black that is black.
            code: places()
                .map(|root| ((root * root).powf(1.0 / 2.4) * (CODE_COUNT - 1) as f64).round() as u16)
                .collect(),
        }
    }

    /// The code values of one pixel: red, green, blue.
    pub(crate) fn map(&self, pixel: [u16; 3]) -> [u16; 3] {
        let mut light = pixel.map(|code| {
            let code = usize::from(code).min(CODE_COUNT - 1);
            self.light.get(code).copied().unwrap_or(0.0)
        });
        if let Some(screen) = &self.screen {
            let gain = between(screen, dot(&LUMINANCE_WIDE, &light).sqrt().sqrt());
            light = light.map(|component| component * gain);
        }
        let [red, green, blue] = light;
        let largest = red.max(green).max(blue);
        let gain = between(&self.gain, largest.sqrt().sqrt());
        let light = light.map(|component| component * gain);
        let narrow = TO_NARROW.map(|row| dot(&row, &light));
        fit(narrow).map(|component| nearest(&self.code, component.sqrt()))
    }

    /// Maps planes of samples of sixteen bits, of which the lower ten count: green, blue, red, row by row.
    pub(crate) fn map_rows(&self, green: &mut [u8], blue: &mut [u8], red: &mut [u8]) {
        let rows = green.as_chunks_mut::<2>().0.iter_mut();
        let rows = rows.zip(blue.as_chunks_mut::<2>().0).zip(red.as_chunks_mut::<2>().0);
        // Neighbours are often alike.
        let mut last = ([0; 3], self.map([0; 3]));
        for ((green, blue), red) in rows {
            let pixel = [*red, *green, *blue].map(u16::from_le_bytes);
            if pixel != last.0 {
                last = (pixel, self.map(pixel));
            }
            [*red, *green, *blue] = last.1.map(u16::to_le_bytes);
        }
    }
}

fn dot(row: &[f32; 3], light: &[f32; 3]) -> f32 {
    let [a, b, c] = row;
    let [red, green, blue] = light;
    a * red + b * green + c * blue
}

/// Colours that an SDR screen lacks, drawn towards grey of the same luminance until it has them.
fn fit(light: [f32; 3]) -> [f32; 3] {
    let [red, green, blue] = light;
    let (least, most) = (red.min(green).min(blue), red.max(green).max(blue));
    if least >= 0.0 && most <= 1.0 {
        return light;
    }
    let grey = dot(&LUMINANCE, &light).clamp(0.0, 1.0);
    let below = if least < 0.0 { grey / (grey - least) } else { 1.0 };
    let above = if most > 1.0 { (1.0 - grey) / (most - grey) } else { 1.0 };
    let part = below.min(above);
    light.map(|component| (grey + (component - grey) * part).clamp(0.0, 1.0))
}

/// Light of a source's brightest picture, in cd/m²: what its content reaches, or what its grader's screen could show. From
/// caps: `greatest:average`, and the ninth number of the display's, in units of 0.0001 cd/m².
pub(crate) fn peak(mastering_display: Option<&str>, content_light_level: Option<&str>) -> Option<u32> {
    let number = |text: Option<&str>, at| text?.split(':').nth(at)?.trim().parse::<u32>().ok();
    let content = number(content_light_level, 0).filter(|light| *light > 0);
    content.or_else(|| {
        number(mastering_display, 8)
            .map(|light| light / 10_000)
            .filter(|light| *light > 0)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn code(value: f64) -> u16 {
        (value * 1_023.0).round() as u16
    }

    #[test]
    fn light_is_that_of_the_recommendation() {
        // BT.2408 table 1: PQ of 58 % is reference white, 75 % of HLG is 203 of 1000 cd/m².
        assert!((light_of_pq(0.5807) - 203.0).abs() < 0.5);
        assert!((light_of_pq(1.0) - 10_000.0).abs() < 1e-6);
        assert!((scene_of_hlg(0.75).powf(1.2) * 1_000.0 - 203.0).abs() < 1.0);
        for light in [0.01, 1.0, 100.0, 203.0, 4_000.0] {
            assert!((light_of_pq(pq_of_light(light)) / light - 1.0).abs() < 1e-6, "{light}");
        }
        // What is dim stays as it is; the peak becomes white.
        assert_eq!(rolled_off(50.0, 1_000.0), 50.0);
        assert!((rolled_off(1_000.0, 1_000.0) - WHITE).abs() < 0.01);
        assert_eq!(rolled_off(100.0, 203.0), 100.0);
    }

    #[test]
    fn greys_stay_grey_and_in_order() {
        let check = |map: &ToneMap, value: f64, expected: f64| {
            let pixel = map.map([code(value); 3]);
            let [red, green, blue] = pixel;
            assert!(
                red.abs_diff(green) <= 1 && blue.abs_diff(green) <= 1,
                "{value}: {pixel:?}"
            );
            let shown = f64::from(green) / 1_023.0;
            assert!(
                (shown - expected).abs() < 0.006,
                "{value}: {shown} instead of {expected}"
            );
        };
        let pq = ToneMap::new(VideoRange::Pq, Some(1_000));
        // Light below the knee over white, to the power of 1/2.4.
        for light in [0.5, 10.0, 50.0_f64] {
            check(&pq, pq_of_light(light), (light / WHITE).powf(1.0 / 2.4));
        }
        check(&pq, 0.0, 0.0);
        check(&pq, pq_of_light(1_000.0), 1.0);
        check(&pq, 1.0, 1.0);
        let hlg = ToneMap::new(VideoRange::Hlg, None);
        for value in [0.1, 0.3, 0.5] {
            let light = scene_of_hlg(value).powf(1.2) * 1_000.0;
            check(&hlg, value, (rolled_off(light, 1_000.0) / WHITE).powf(1.0 / 2.4));
        }
        check(&hlg, 1.0, 1.0);
        for map in [&pq, &hlg, &ToneMap::new(VideoRange::Pq, Some(100))] {
            let mut last = 0;
            for value in 0..1_024 {
                let [_, green, _] = map.map([value; 3]);
                assert!(green >= last, "{value}: {green} after {last}");
                last = green;
            }
        }
    }

    #[test]
    fn colours_keep_their_hue() {
        let map = ToneMap::new(VideoRange::Pq, Some(4_000));
        for (pixel, order) in [
            ([900, 100, 100], [0, 1, 2]),
            ([100, 800, 300], [1, 2, 0]),
            ([200, 300, 700], [2, 1, 0]),
        ] {
            let made = map.map(pixel);
            let [first, second, third] = order.map(|at: usize| made[at]);
            assert!(first > second && first > third, "{pixel:?} became {made:?}");
        }
        // No code is out of range.
        for pixel in [
            [u16::MAX; 3],
            [1_023, 0, 0],
            [0, 1_023, 0],
            [0, 0, 1_023],
            [1_023, 1_023, 0],
        ] {
            assert!(map.map(pixel).iter().all(|code| *code <= 1_023), "{pixel:?}");
        }
    }

    #[test]
    fn a_source_says_how_bright_it_is() {
        let display = Some("34000:16000:13250:34500:7500:3000:15635:16450:40000000:50");
        assert_eq!(peak(display, Some("1200:400")), Some(1_200));
        assert_eq!(peak(display, Some("0:0")), Some(4_000));
        assert_eq!(peak(display, None), Some(4_000));
        assert_eq!(peak(Some("1:2"), Some("many")), None);
        assert_eq!(peak(None, None), None);
    }

    #[test]
    fn rows_are_mapped_pixel_by_pixel() {
        let map = ToneMap::new(VideoRange::Pq, None);
        let plane = |codes: [u16; 3]| codes.iter().flat_map(|code| code.to_le_bytes()).collect::<Vec<u8>>();
        let (mut green, mut blue, mut red) = (plane([500, 500, 7]), plane([400, 400, 7]), plane([300, 300, 7]));
        map.map_rows(&mut green, &mut blue, &mut red);
        let [r, g, b] = map.map([300, 500, 400]);
        let [r2, g2, b2] = map.map([7; 3]);
        assert_eq!(
            (red, green, blue),
            (plane([r, r, r2]), plane([g, g, g2]), plane([b, b, b2]))
        );
    }
}
