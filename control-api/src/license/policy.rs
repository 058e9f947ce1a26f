//! Policy: which keys a grant opens, and on what terms.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use packager::crypto::vault::TrackClass;
use packager::grant::{Grant, GrantScheme};

use super::{Keep, LicenseSystem, LicensedKey, RenewalTerms, Terms, TrackTerms};

/// What every licence is asked for, within what the grant allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicensePolicy {
    /// Longest that a licence holds, in seconds. Short, since an ended session is noticed at the next licence.
    pub duration_s: u64,
    /// Longest from the first picture on.
    pub playback_duration_s: Option<u64>,
    /// How licences are renewed.
    pub renewal: Option<RenewalTerms>,
    /// Demands on players, a class each.
    pub tracks: Vec<TrackTerms>,
}

impl Default for LicensePolicy {
    fn default() -> LicensePolicy {
        LicensePolicy {
            duration_s: 600,
            playback_duration_s: None,
            renewal: None,
            tracks: Vec::new(),
        }
    }
}

impl LicensePolicy {
    /// The terms for a grant that holds `now`. No licence outlives its grant.
    pub fn terms(&self, grant: &Grant, now: u64) -> Terms {
        let expires = now.saturating_add(self.duration_s.max(1)).min(grant.expires);
        let duration_s = expires.saturating_sub(now).max(1);
        Terms {
            expires,
            duration_s,
            playback_duration_s: self.playback_duration_s.map(|seconds| seconds.min(duration_s)),
            // Grants say nothing of downloads.
            keep: Keep::Session,
            renewal: self.renewal,
            tracks: self.tracks.clone(),
        }
    }
}

/// The highest class of pictures that a grant opens. The cap is a height, the class a number of pixels, and no picture is
/// known here: a picture of 16:9 and that height decides. Wider ones of a higher class stay closed.
fn class_max(height_max: Option<u32>) -> TrackClass {
    match height_max {
        None => TrackClass::Uhd2,
        Some(height) => {
            let width = u64::from(height) * 16 / 9;
            TrackClass::of_picture(u32::try_from(width).unwrap_or(u32::MAX), height)
        }
    }
}

/// The keys that `grant` opens for `system`, of those of its title.
pub fn entitled(keys: Vec<LicensedKey>, grant: &Grant, system: LicenseSystem) -> Vec<LicensedKey> {
    let highest = class_max(grant.height_max);
    let opened = keys.into_iter().filter(|key| {
        system.decrypts(key.scheme) && key.track <= highest && grant.allows_scheme(GrantScheme::Common(key.scheme))
    });
    opened.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use packager::crypto::{ContentKey, KeyId, ProtectionScheme};

    use super::*;

    #[test]
    fn grants_open_what_they_say() {
        let mut keys = Vec::new();
        for scheme in [ProtectionScheme::Cbcs, ProtectionScheme::Cenc] {
            for track in TrackClass::ALL {
                keys.push(LicensedKey {
                    key_id: KeyId([keys.len() as u8; 16]),
                    key: ContentKey::new([0; 16]),
                    scheme,
                    track,
                });
            }
        }
        let check = |height_max, schemes: Option<&[&str]>, system, expected: &str| {
            let mut grant = Grant::new("/vod/f/", 100);
            grant.height_max = height_max;
            grant.schemes = schemes.map(|names| names.iter().map(|name| GrantScheme::parse(name).unwrap()).collect());
            let opened = entitled(keys.clone(), &grant, system);
            let names: Vec<_> = opened
                .iter()
                .map(|key| format!("{}:{}", key.scheme.name(), key.track.name()))
                .collect();
            assert_eq!(names.join(" "), expected, "{height_max:?} {schemes:?} {system}");
        };
        let all = "cbcs:AUDIO cbcs:SD cbcs:HD cbcs:UHD1 cbcs:UHD2 cenc:AUDIO cenc:SD cenc:HD cenc:UHD1 cenc:UHD2";
        check(None, None, LicenseSystem::Widevine, all);
        check(
            Some(480),
            Some(&["cenc"]),
            LicenseSystem::Widevine,
            "cenc:AUDIO cenc:SD",
        );
        check(
            Some(576),
            Some(&["cenc"]),
            LicenseSystem::Widevine,
            "cenc:AUDIO cenc:SD cenc:HD",
        );
        check(
            Some(1080),
            Some(&["cbcs"]),
            LicenseSystem::PlayReady,
            "cbcs:AUDIO cbcs:SD cbcs:HD",
        );
        check(
            Some(2160),
            None,
            LicenseSystem::FairPlay,
            "cbcs:AUDIO cbcs:SD cbcs:HD cbcs:UHD1",
        );
        check(Some(0), None, LicenseSystem::FairPlay, "cbcs:AUDIO cbcs:SD");
        check(
            Some(u32::MAX),
            Some(&["cbcs"]),
            LicenseSystem::FairPlay,
            "cbcs:AUDIO cbcs:SD cbcs:HD cbcs:UHD1 cbcs:UHD2",
        );
        check(None, Some(&["cenc", "clear"]), LicenseSystem::FairPlay, "");
        check(None, Some(&["aes-128"]), LicenseSystem::ClearKey, "");
    }

    #[test]
    fn no_licence_outlives_its_grant() {
        let policy = LicensePolicy {
            playback_duration_s: Some(500),
            ..LicensePolicy::default()
        };
        let check = |expires, now, expected| {
            let terms = policy.terms(&Grant::new("/vod/f/", expires), now);
            assert_eq!((terms.expires, terms.duration_s, terms.playback_duration_s), expected);
        };
        check(10_000, 1_000, (1_600, 600, Some(500)));
        check(1_060, 1_000, (1_060, 60, Some(60)));
        check(u64::MAX, u64::MAX - 1, (u64::MAX, 1, Some(1)));
    }
}
