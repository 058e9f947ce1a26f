//! Entitlement: whether an account may watch a title now, and how well. Pure: facts in, a policy or named refusals out.

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::EntitlementMode;
use crate::db::streams::{Facts, ProfileFacts, Subscription};
use crate::error::Code;

/// What of the settings counts.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whether subscriptions count.
    pub mode: EntitlementMode,
    /// Least tier for premium titles.
    pub premium_tier: i32,
    /// How long an unpaid subscription still covers.
    pub grace: TimeDelta,
    /// Streams at once without a subscription.
    pub streams_max: i32,
}

/// What a viewer may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Best quality.
    pub quality: Quality,
    /// Streams at once.
    pub streams_max: i32,
}

/// Qualities of plans, by lines of picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// Up to 576.
    Sd,
    /// Up to 720.
    Hd,
    /// Up to 1080.
    Fhd,
    /// Any.
    Uhd,
}

impl Quality {
    /// What is written `name`.
    pub fn of(name: &str) -> Option<Quality> {
        let all = [Quality::Sd, Quality::Hd, Quality::Fhd, Quality::Uhd];
        all.into_iter().find(|quality| quality.name() == name)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Quality::Sd => "SD",
            Quality::Hd => "HD",
            Quality::Fhd => "FHD",
            Quality::Uhd => "UHD",
        }
    }

    /// Highest picture; none for any.
    pub fn height_max(self) -> Option<u32> {
        match self {
            Quality::Sd => Some(576),
            Quality::Hd => Some(720),
            Quality::Fhd => Some(1080),
            Quality::Uhd => None,
        }
    }
}

/// All reasons why an account may not watch, in the order of PL-1. Empty: it may.
pub fn refusals(facts: &Facts, terms: &Terms, device_asked: bool, now: DateTime<Utc>) -> Vec<Code> {
    let Some(title) = &facts.title else {
        return vec![Code::NotFound];
    };
    let mut found = Vec::new();
    let scheduled = title.scheduled || title.available_from.is_some_and(|from| now < from);
    if !title.visible && !title.scheduled {
        // Nothing more is told of what is hidden.
        return vec![Code::NotFound];
    }
    if scheduled {
        found.push(Code::NotYetAvailable);
    }
    if title.available_until.is_some_and(|until| now >= until) {
        found.push(Code::AvailabilityEnded);
    }
    if !facts.geo_allowed {
        found.push(Code::GeoRestricted);
    }
    found.extend(subscription_refusal(
        facts.subscription.as_ref(),
        title.is_premium,
        terms,
        now,
    ));
    match &facts.profile {
        None => found.push(Code::InvalidProfile),
        Some(profile) if !profile_sees(profile, title.content_rating.as_deref()) => found.push(Code::ProfileRestricted),
        Some(_) => {}
    }
    if device_asked && !facts.device_known {
        found.push(Code::DeviceNotRegistered);
    }
    if !title.asset_playable {
        found.push(Code::MediaNotReady);
    }
    found
}

/// Why the subscription does not cover a title, if so (EN-1, EN-2, EN-4).
pub fn subscription_refusal(
    subscription: Option<&Subscription>,
    is_premium: bool,
    terms: &Terms,
    now: DateTime<Utc>,
) -> Option<Code> {
    if terms.mode == EntitlementMode::Open {
        return None;
    }
    match subscription.filter(|subscription| is_live(subscription, terms.grace, now)) {
        None => Some(Code::SubscriptionRequired),
        Some(subscription) if is_premium && subscription.tier < terms.premium_tier => Some(Code::PlanUpgradeRequired),
        Some(_) => None,
    }
}

/// Whether a subscription covers anything now.
pub fn is_live(subscription: &Subscription, grace: TimeDelta, now: DateTime<Utc>) -> bool {
    match subscription.status.as_str() {
        "active" | "trialing" => true,
        "past_due" => now < subscription.period_end + grace,
        _ => false,
    }
}

/// What an account that may watch may have.
pub fn policy(facts: &Facts, terms: &Terms) -> Policy {
    match (&facts.subscription, terms.mode) {
        (Some(subscription), EntitlementMode::Subscription) => Policy {
            quality: Quality::of(&subscription.max_quality).unwrap_or(Quality::Sd),
            streams_max: subscription.streams_max,
        },
        _ => Policy {
            quality: Quality::Uhd,
            streams_max: terms.streams_max,
        },
    }
}

/// How old one must be for a rating (VS-6); without one, grown up.
pub fn age_of(rating: Option<&str>) -> u8 {
    match rating {
        Some("G" | "TV-Y" | "TV-G") => 0,
        Some("PG" | "TV-PG") => 8,
        Some("PG-13") => 13,
        Some("TV-14") => 14,
        Some("R" | "TV-MA") => 17,
        _ => 18,
    }
}

/// The highest age that a profile sees.
pub fn age_limit(profile: &ProfileFacts) -> u8 {
    match (&profile.max_content_rating, profile.is_kids) {
        (Some(rating), true) => age_of(Some(rating)).min(8),
        (Some(rating), false) => age_of(Some(rating)),
        (None, true) => 8,
        (None, false) => 18,
    }
}

fn profile_sees(profile: &ProfileFacts, rating: Option<&str>) -> bool {
    age_of(rating) <= age_limit(profile)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::db::streams::Title;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000, 0).unwrap()
    }

    fn terms() -> Terms {
        Terms {
            mode: EntitlementMode::Subscription,
            premium_tier: 2,
            grace: TimeDelta::days(3),
            streams_max: 2,
        }
    }

    fn facts() -> Facts {
        Facts {
            title: Some(Title {
                content_type: "movie".to_owned(),
                visible: true,
                scheduled: false,
                available_from: None,
                available_until: None,
                is_premium: false,
                drm_required: false,
                content_rating: Some("PG-13".to_owned()),
                asset_id: Some(Uuid::nil()),
                asset_playable: true,
                license_duration_s: None,
                version: 1,
            }),
            subscription: Some(Subscription {
                id: Uuid::nil(),
                status: "active".to_owned(),
                period_end: now() + TimeDelta::days(10),
                version: 1,
                plan_id: Uuid::nil(),
                tier: 1,
                max_quality: "HD".to_owned(),
                streams_max: 3,
                has_downloads: false,
            }),
            geo_allowed: true,
            profile: Some(ProfileFacts {
                id: Uuid::nil(),
                is_kids: false,
                max_content_rating: None,
            }),
            device_known: true,
        }
    }

    fn check(change: impl FnOnce(&mut Facts), expected: &[Code]) {
        let mut facts = facts();
        change(&mut facts);
        assert_eq!(refusals(&facts, &terms(), true, now()), expected, "{facts:?}");
    }

    fn title(facts: &mut Facts) -> &mut Title {
        facts.title.as_mut().unwrap()
    }

    fn subscription(facts: &mut Facts) -> &mut Subscription {
        facts.subscription.as_mut().unwrap()
    }

    #[test]
    fn pl_1_reasons_come_in_order() {
        check(|_| {}, &[]);
        check(|facts| facts.title = None, &[Code::NotFound]);
        check(|facts| title(facts).visible = false, &[Code::NotFound]);
        let all = |facts: &mut Facts| {
            title(facts).visible = false;
            title(facts).scheduled = true;
            title(facts).available_until = Some(now());
            title(facts).asset_playable = false;
            facts.geo_allowed = false;
            facts.subscription = None;
            facts.profile = None;
            facts.device_known = false;
        };
        let expected = [
            Code::NotYetAvailable,
            Code::AvailabilityEnded,
            Code::GeoRestricted,
            Code::SubscriptionRequired,
            Code::InvalidProfile,
            Code::DeviceNotRegistered,
            Code::MediaNotReady,
        ];
        check(all, &expected);
    }

    #[test]
    fn pl_3_the_window_is_half_open() {
        let second = TimeDelta::seconds(1);
        check(|facts| title(facts).available_from = Some(now()), &[]);
        check(
            |facts| title(facts).available_from = Some(now() + second),
            &[Code::NotYetAvailable],
        );
        check(|facts| title(facts).available_until = Some(now() + second), &[]);
        check(
            |facts| title(facts).available_until = Some(now()),
            &[Code::AvailabilityEnded],
        );
    }

    #[test]
    fn en_1_unpaid_subscriptions_cover_for_some_days() {
        check(|facts| subscription(facts).status = "trialing".to_owned(), &[]);
        check(
            |facts| subscription(facts).status = "canceled".to_owned(),
            &[Code::SubscriptionRequired],
        );
        check(
            |facts| subscription(facts).status = "incomplete".to_owned(),
            &[Code::SubscriptionRequired],
        );
        let late = |days: i64| {
            move |facts: &mut Facts| {
                subscription(facts).status = "past_due".to_owned();
                subscription(facts).period_end = now() - TimeDelta::days(days);
            }
        };
        check(late(2), &[]);
        check(late(3), &[Code::SubscriptionRequired]);
    }

    #[test]
    fn en_2_premium_titles_need_a_premium_plan() {
        check(|facts| title(facts).is_premium = true, &[Code::PlanUpgradeRequired]);
        let premium = |facts: &mut Facts| {
            title(facts).is_premium = true;
            subscription(facts).tier = 2;
        };
        check(premium, &[]);
    }

    #[test]
    fn en_3_plans_cap_the_quality() {
        assert_eq!(policy(&facts(), &terms()).quality, Quality::Hd);
        let lines = ["SD", "HD", "FHD", "UHD"].map(|name| Quality::of(name).unwrap().height_max());
        assert_eq!(lines, [Some(576), Some(720), Some(1080), None]);
        assert_eq!(Quality::of("4K"), None);
    }

    #[test]
    fn en_4_open_tenants_ask_for_no_subscription() {
        let mut facts = facts();
        facts.subscription = None;
        title(&mut facts).is_premium = true;
        let open = Terms {
            mode: EntitlementMode::Open,
            ..terms()
        };
        assert!(refusals(&facts, &open, true, now()).is_empty());
        assert_eq!(policy(&facts, &open).streams_max, 2);
    }

    #[test]
    fn vs_6_profiles_see_what_is_for_their_age() {
        let sees = |is_kids: bool, limit: Option<&str>, rating: Option<&str>| {
            let profile = ProfileFacts {
                id: Uuid::nil(),
                is_kids,
                max_content_rating: limit.map(str::to_owned),
            };
            profile_sees(&profile, rating)
        };
        assert!(sees(false, None, None));
        assert!(sees(false, Some("PG-13"), Some("PG-13")));
        assert!(!sees(false, Some("PG-13"), Some("TV-14")));
        assert!(!sees(false, Some("R"), None));
        assert!(sees(true, None, Some("PG")));
        assert!(!sees(true, None, Some("PG-13")));
        assert!(!sees(true, Some("R"), Some("PG-13")));
        assert!(!sees(true, Some("G"), Some("PG")));
    }
}
