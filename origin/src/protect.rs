//! Protected titles: which form an entry point leads to, and the same presentation under keys.
//!
//! A protected title has no clear form: what would be served without a key is not served at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use packager::crypto::output::OutputRules;
use packager::crypto::playready::SignalledKey;
use packager::crypto::signal::{ClearKeyTag, DrmSystems};
use packager::crypto::vault::{OpenKey, TrackClass};
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use packager::form::{Form, SegmentFormat};
use packager::isobmff::protection::{FragmentCipher, KeyNaming};
use packager::presentation::choice::TrackChoice;
use packager::presentation::clip;
use packager::presentation::{Presentation, Representation};
use packager::protection::{KeySchedule, NewKeyPeriod, Protection, ProtectionError, TrackProtection, class_of};
use packager::time::Rounding;
use sha2::{Digest, Sha256};

use crate::access::Policy;
use crate::asset::{Asset, Variants};
use crate::error::ServeError;
use crate::keys::{KekProvider, KeyStore, KeyStoreError, OpenTitle};
use crate::route::VodResource;

/// The vault is looked at again after this time, so that a key that was revoked is soon out of use.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Memory of protected presentations that are kept, as if each had its indexes for itself: they outlive the clear one's place.
const KEPT_BYTES_MAX: u64 = 256 << 20;
/// They hold the title's files open: not for longer than somebody asks.
const KEPT_IDLE: Duration = Duration::from_secs(300);

/// Which titles are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Titles {
    /// All: one without keys is not served.
    #[default]
    All,
    /// Those that the vault has keys for; the others are served clear.
    Keyed,
}

/// The settings of protection, checked.
#[derive(Clone, Debug)]
pub struct ProtectConfig {
    /// Folder of the key vault.
    pub vault: PathBuf,
    /// File of the key-encryption key.
    pub kek: PathBuf,
    /// What reads that file: more than the key itself may stand there.
    pub open_kek: fn(&Path) -> Box<dyn KekProvider>,
    /// Which titles are protected.
    pub titles: Titles,
    /// What CMAF entry points lead to unless asked otherwise: `cbcs` or `cenc`.
    pub scheme: ProtectionScheme,
    /// What MPEG-TS entry points lead to unless asked otherwise.
    pub ts: Form,
    /// What players are told.
    pub systems: DrmSystems,
    /// How much of every title's beginning is left clear, in milliseconds; zero for nothing.
    pub clear_lead_ms: u64,
    /// Where fragments of CMAF have their key named.
    pub naming: KeyNaming,
    /// What devices have to guarantee.
    pub outputs: OutputRules,
}

/// What an asset is encrypted with.
pub struct Protected {
    /// Everything but the keys.
    pub protection: Protection,
    /// Keys by their names. They have no `Debug`.
    keys: BTreeMap<KeyId, ContentKey>,
}

impl std::fmt::Debug for Protected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Protected")
            .field("form", &self.protection.form())
            .finish_non_exhaustive()
    }
}

impl Protected {
    /// The key that `track` says.
    pub fn key(&self, track: &TrackProtection) -> Result<&ContentKey, ServeError> {
        self.keys.get(&track.key_id).ok_or_else(|| ServeError::MissingKey {
            what: track.key_id.to_string(),
        })
    }

    /// What encrypts fragments of `representation` where they are protected as `protection` says.
    pub fn fragment_cipher(
        &self,
        representation: &Representation,
        protection: &TrackProtection,
    ) -> Result<FragmentCipher, ServeError> {
        let track = representation.track().ok_or(ServeError::NotFound)?;
        let encryption = protection.encryption.ok_or(ServeError::NotFound)?;
        FragmentCipher::new(&track.description, &encryption, self.key(protection)?).map_err(|error| {
            ServeError::Damaged {
                what: format!("{}: {error}", representation.id),
            }
        })
    }

    /// The same for a part of the presentation, which begins `begins_ms` behind its beginning.
    pub fn of_part(&self, part: &Presentation, begins_ms: u64) -> Protected {
        Protected {
            protection: self.protection.of_part(part, begins_ms),
            keys: self.keys.clone(),
        }
    }
}

type Key = (String, String, Form, ClearKeyTag);

/// A protected presentation that is kept.
struct Kept {
    asset: Arc<Asset>,
    /// The keys it was made with; others make another.
    title: Arc<OpenTitle>,
    checked: Mutex<Instant>,
}

/// Makes protected presentations.
pub struct Protector {
    config: ProtectConfig,
    keys: Arc<KeyStore>,
    /// By media id, version, form and how HLS names Clear Keys.
    kept: Cache<Key, Arc<Kept>>,
}

impl Protector {
    /// Opens the vault.
    pub fn open(config: ProtectConfig) -> Result<Protector, KeyStoreError> {
        Ok(Protector {
            keys: Arc::new(KeyStore::with_provider(&config.vault, (config.open_kek)(&config.kek))?),
            kept: Cache::builder()
                .max_capacity(KEPT_BYTES_MAX)
                .weigher(|_, kept: &Arc<Kept>| u32::try_from(kept.asset.weight_bytes()).unwrap_or(u32::MAX))
                .time_to_idle(KEPT_IDLE)
                .build(),
            config,
        })
    }

    /// The vault.
    pub fn key_store(&self) -> Arc<KeyStore> {
        self.keys.clone()
    }

    /// What players are told.
    pub fn systems(&self) -> &DrmSystems {
        &self.config.systems
    }

    /// The keys of `media_id`; `None` for a title that is served clear. Blocking.
    fn title(&self, media_id: &str) -> Result<Option<Arc<OpenTitle>>, ServeError> {
        let title = self.keys.title(media_id).map_err(|error| ServeError::Keys {
            what: error.to_string(),
        })?;
        match (title, self.config.titles) {
            // Keys of its sources alone do not protect a title, and these say that it need not be.
            (Some(title), Titles::Keyed) if title.opens_clear_sources_alone() => Ok(None),
            (None, Titles::All) => Err(ServeError::MissingKey {
                what: media_id.to_owned(),
            }),
            (title, _) => Ok(title),
        }
    }

    /// The form that `wanted` means for a protected title; `None` when it is a clear form's own file.
    fn form(&self, resource: &VodResource, wanted: Form) -> Option<Form> {
        match (resource, wanted.is_protected(), wanted.format()) {
            (_, true, _) => Some(wanted),
            (VodResource::File { .. }, false, _) => None,
            (_, false, SegmentFormat::Cmaf) => Some(Form::CmafProtected(self.config.scheme)),
            (_, false, SegmentFormat::Ts) => Some(self.config.ts),
        }
    }

    /// The ways that Clear Keys may be named in what `resource` asks for: the one that is asked for or set, and for a
    /// file, whose version tells, the other too.
    fn tags(&self, resource: &VodResource, form: Form) -> Vec<ClearKeyTag> {
        let set = self
            .config
            .systems
            .clear_key
            .as_ref()
            .map(|clear_key| clear_key.cbcs_tag);
        let set = set.unwrap_or_default();
        if form != Form::CmafProtected(ProtectionScheme::Cbcs) || self.config.systems.clear_key.is_none() {
            return vec![set];
        }
        match resource {
            VodResource::Multivariant { clear_key, .. } => vec![clear_key.unwrap_or(set)],
            VodResource::File { .. } if set == ClearKeyTag::Licence => vec![set, ClearKeyTag::Identity],
            VodResource::File { .. } => vec![set, ClearKeyTag::Licence],
            _ => vec![set],
        }
    }

    /// What answers `resource` of the clear `asset`, if that is known without looking at the vault.
    pub fn kept(&self, asset: &Asset, resource: &VodResource) -> Option<Arc<Asset>> {
        let form = self.form(resource, resource.form()?)?;
        self.tags(resource, form).into_iter().find_map(|tag| {
            let kept = self.kept.get(&key(asset, form, tag))?;
            let checked = *kept.checked.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = checked.elapsed() < CHECK_INTERVAL;
            let stands = fresh && is_of(resource, &kept.asset) && !kept.asset.is_left_behind(asset);
            stands.then(|| kept.asset.clone())
        })
    }

    /// What answers `resource` of the clear `asset`: the asset under keys, or itself where it is not protected. Blocking.
    pub fn protect(&self, asset: &Arc<Asset>, resource: &VodResource) -> Result<Arc<Asset>, ServeError> {
        let Some(wanted) = resource.form() else {
            return Ok(asset.clone());
        };
        let Some(title) = self.title(&asset.media_id)? else {
            return match wanted.is_protected() {
                true => Err(ServeError::NotFound),
                false if !asset.may_be_clear() => Err(ServeError::MissingKey {
                    what: format!("{}: its source is encrypted", asset.media_id),
                }),
                false => Ok(asset.clone()),
            };
        };
        let form = self.form(resource, wanted).ok_or(ServeError::NotFound)?;
        for tag in self.tags(resource, form) {
            let made = self.make(asset, form, tag, &title)?;
            if is_of(resource, &made) {
                return Ok(made);
            }
        }
        Err(ServeError::NotFound)
    }

    fn make(
        &self,
        asset: &Asset,
        form: Form,
        tag: ClearKeyTag,
        title: &Arc<OpenTitle>,
    ) -> Result<Arc<Asset>, ServeError> {
        let key = key(asset, form, tag);
        if let Some(kept) = self.kept.get(&key)
            && Arc::ptr_eq(&kept.title, title)
            && !kept.asset.is_left_behind(asset)
        {
            *kept.checked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return Ok(kept.asset.clone());
        }
        let mut config = self.config.clone();
        if let Some(clear_key) = &mut config.systems.clear_key {
            clear_key.cbcs_tag = tag;
        }
        // What came encrypted is left clear nowhere, unless who gave its key says so.
        if !asset.may_be_clear() {
            config.clear_lead_ms = 0;
        }
        let made = Arc::new(protected(asset, form, title, &config)?);
        let kept = Kept {
            asset: made.clone(),
            title: title.clone(),
            checked: Mutex::new(Instant::now()),
        };
        self.kept.insert(key, Arc::new(kept));
        Ok(made)
    }

    /// The key `key_id` of `media_id`, for those who may have it: keys of MPEG-TS, and where Clear Key is on all others.
    /// Of those none whose form, tracks or times `policy` does not open. Blocking.
    pub fn license(&self, asset: &Asset, key_id: KeyId, policy: &Policy) -> Result<Option<ContentKey>, ServeError> {
        let Some(title) = self.title(&asset.media_id)? else {
            return Ok(None);
        };
        for form in Form::ALL.into_iter().filter(|form| policy.allows(*form)) {
            let allowed = form.format() == SegmentFormat::Ts || self.config.systems.clear_key.is_some();
            if let (true, Some(scheme)) = (allowed, form.key_scheme())
                && let Some(found) = title.keys(scheme).find(|key| key.key_id == key_id)
            {
                if !policy.opens_pictures(&asset.presentation) || !opens_at(asset, form, &title, found, policy) {
                    return Ok(None);
                }
                // What a manifest hides, a key does not open either.
                if policy.tracks() == TrackChoice::default() {
                    return Ok(Some(found.key.clone()));
                }
                let selection = policy.tracks().select(&asset.presentation, form)?;
                let mut tracks = asset.presentation.representations.iter();
                let opens = tracks.any(|rep| selection.keeps(&rep.id) && class_of(rep) == Some(found.track));
                return Ok(opens.then(|| found.key.clone()));
            }
        }
        Ok(None)
    }
}

/// Whether something of the part that `policy` opens is under `key`.
fn opens_at(asset: &Asset, form: Form, title: &OpenTitle, key: &OpenKey, policy: &Policy) -> bool {
    let Some((start_ms, end_ms)) = policy.window() else {
        return true;
    };
    let begins = clip::beginning(&asset.presentation, start_ms, form).to_millis(Rounding::Floor);
    let begins_late_enough = end_ms.is_none_or(|end_ms| key.starts_ms.unwrap_or(0) < end_ms);
    // A period ends with the segment that its last instant lies in.
    let ends_late_enough = title
        .ends_ms(key)
        .is_none_or(|ends_ms| i64::try_from(ends_ms).is_ok_and(|ends_ms| ends_ms > begins));
    begins_late_enough && ends_late_enough
}

fn key(asset: &Asset, form: Form, tag: ClearKeyTag) -> Key {
    (asset.media_id.clone(), asset.presentation.version.clone(), form, tag)
}

/// Whether `resource` can be one of `asset`'s: a file says by its version.
fn is_of(resource: &VodResource, asset: &Asset) -> bool {
    match resource {
        VodResource::File { version, .. } => version.starts_with(&asset.presentation.version),
        _ => true,
    }
}

/// `asset` in a protected form. Its version covers the names of the keys of all periods, where they begin, and what else
/// decides bytes: other keys, other URLs.
pub fn protected(asset: &Asset, form: Form, title: &OpenTitle, config: &ProtectConfig) -> Result<Asset, ServeError> {
    let scheme = form.key_scheme().ok_or(ServeError::NotFound)?;
    let mut presentation = asset.presentation.clone();
    let mut hash = Sha256::new();
    // Playlists differ by it.
    let tag = config.systems.clear_key.as_ref().map(|clear_key| clear_key.cbcs_tag);
    hash.update(format!(
        "headwater protected 1\n{}\n{}\n{tag:?}\n",
        presentation.version,
        form.name()
    ));
    let classes: Vec<(String, TrackClass)> = presentation
        .representations
        .iter()
        .filter_map(|representation| Some((representation.id.clone(), class_of(representation)?)))
        .collect();
    let mut keys = BTreeMap::new();
    let mut periods: Vec<NewKeyPeriod> = Vec::new();
    for starts_ms in title.starts_ms(scheme, classes.iter().map(|(_, class)| *class)) {
        let mut signalled: BTreeMap<String, SignalledKey> = BTreeMap::new();
        for (id, class) in &classes {
            if let Some(found) = title.active(scheme, *class, starts_ms) {
                keys.insert(found.key_id, found.key.clone());
                signalled.insert(id.clone(), SignalledKey::new(found.key_id, &found.key));
            }
        }
        let names =
            |keys: &BTreeMap<String, SignalledKey>| -> Vec<KeyId> { keys.values().map(|key| key.key_id).collect() };
        if periods
            .last()
            .is_some_and(|last| names(&last.keys) == names(&signalled))
        {
            continue;
        }
        if starts_ms > 0 {
            hash.update(format!("from {starts_ms}\n"));
        }
        for (id, _) in &classes {
            if let Some(key) = signalled.get(id) {
                hash.update(format!("{id} {}\n", key.key_id));
            }
        }
        periods.push(NewKeyPeriod {
            starts_ms,
            keys: signalled,
        });
    }
    if config.clear_lead_ms > 0 {
        hash.update(format!("clear {}\n", config.clear_lead_ms));
    }
    if config.naming == KeyNaming::Fragments {
        hash.update("groups\n");
    }
    // What playlists and headers say of DRM systems lies under URLs that are kept for ever.
    hash.update(format!("{:?}\n", config.systems));
    presentation.version = hash
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let schedule = KeySchedule {
        periods,
        clear_lead_ms: config.clear_lead_ms,
        naming: config.naming,
    };
    let protection = Protection::new(&presentation, form, &config.systems, &schedule);
    let protection = protection.map_err(|error| match error {
        ProtectionError::MissingKey { .. } => ServeError::MissingKey {
            what: format!("{}: {error}", asset.media_id),
        },
        ProtectionError::Clear(_) => ServeError::NotFound,
        ProtectionError::PeriodCount(_) | ProtectionError::Signal(_) => ServeError::Keys {
            what: format!("{}: {error}", asset.media_id),
        },
    })?;
    let protection = protection.with_outputs(config.outputs.clone());
    let variants = asset.variants.as_ref().map(|variants| {
        let mut other = variants.other.presentation.clone();
        other.version.clone_from(&presentation.version);
        Variants {
            other: Arc::new(Asset {
                media_id: asset.media_id.clone(),
                files: variants.other.files.clone(),
                thumbnails: None,
                made_of: Vec::new(),
                protected: Some(Arc::new(Protected {
                    protection: protection.of_other_variant(&other.version, &variants.ids),
                    keys: keys.clone(),
                })),
                presentation: other,
                variants: None,
                variant: variants.other.variant,
            }),
            ids: variants.ids.clone(),
        }
    });
    Ok(Asset {
        media_id: asset.media_id.clone(),
        variants,
        variant: asset.variant,
        presentation,
        files: asset.files.clone(),
        thumbnails: asset.thumbnails.clone(),
        made_of: asset.made_of.clone(),
        protected: Some(Arc::new(Protected { protection, keys })),
    })
}
