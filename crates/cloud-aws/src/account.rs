//! What is remembered about the account between calls: every memory has an age at which it is read again, and a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cloud::CloudError;
use moka::future::Cache;
use scheduling::{InstanceType, OfferingKey};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use units::UsdMicrosPerHour;

use crate::aws::{Aws, Subnet};
use crate::class::{Class, Images};
use crate::errors::{CallError, Field};
use crate::images::{self, Variant};
use crate::kubelet::Kubelet;
use crate::offers::{self, Sources};
use crate::prices::Prices;
use crate::recent::Recent;
use crate::selectors::described;
use crate::settings::Settings;
use crate::type_info::TypeInfo;
use crate::unavailable::Unavailable;

/// Types and where they are offered change with AWS's announcements; Karpenter reads them twice a day.
const TYPES_AGE: Duration = Duration::from_hours(12);
/// Subnets, security groups, images: a person's change shows after this. Karpenter's figure.
const CLASS_AGE: Duration = Duration::from_mins(1);
/// Prices. Karpenter's figure.
const PRICES_AGE: Duration = Duration::from_hours(12);
/// Wait for the first prices before the shipped table is used: some forty pages of the price list.
const PRICES_PATIENCE: Duration = Duration::from_secs(30);
/// Classes, and images of classes, that are remembered at once.
const CLASSES_MAX: u64 = 1000;

/// The region's types and their zones.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) types: BTreeMap<String, TypeInfo>,
    pub(crate) zones_of_type: BTreeMap<String, BTreeSet<String>>,
}

/// The account, one region, one cluster.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) aws: Aws,
    pub(crate) settings: Settings,
    pub(crate) region: String,
    catalogue: Cache<(), Arc<Catalogue>>,
    subnets: Cache<String, Arc<[Subnet]>>,
    security_groups: Cache<String, Arc<[String]>>,
    images: Cache<String, Option<String>>,
    prices: Mutex<Prices>,
    prices_read: watch::Sender<bool>,
    unavailable: Mutex<Unavailable>,
    pub(crate) recent: Mutex<Recent>,
}

/// Locks plain data. A panic elsewhere cannot have left it half-changed: every change is one call.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Account {
    pub(crate) fn new(aws: Aws, settings: Settings, region: String) -> Self {
        Self {
            aws,
            settings,
            region,
            catalogue: Cache::builder().max_capacity(1).time_to_live(TYPES_AGE).build(),
            subnets: Cache::builder().max_capacity(CLASSES_MAX).time_to_live(CLASS_AGE).build(),
            security_groups: Cache::builder().max_capacity(CLASSES_MAX).time_to_live(CLASS_AGE).build(),
            images: Cache::builder().max_capacity(CLASSES_MAX).time_to_live(CLASS_AGE).build(),
            prices: Mutex::new(Prices::shipped()),
            prices_read: watch::Sender::new(false),
            unavailable: Mutex::new(Unavailable::default()),
            recent: Mutex::new(Recent::default()),
        }
    }

    /// The region's types; one caller reads, the others wait for it.
    pub(crate) async fn catalogue(&self) -> Result<Arc<Catalogue>, CloudError> {
        let read = async {
            let types = self.aws.instance_types().await?;
            let zones_of_type = self.aws.offerings().await?;
            info!(types = types.len(), "read the instance types of the region");
            let types = types.into_iter().map(|info| (info.name.clone(), info)).collect();
            Ok::<_, CallError>(Arc::new(Catalogue { types, zones_of_type }))
        };
        self.catalogue.try_get_with((), read).await.map_err(|error| CallError::shared(&error, |_| "spec".to_owned()))
    }

    /// The class's subnets. `Misconfigured` if there are none.
    pub(crate) async fn subnets(&self, class: &Class) -> Result<Arc<[Subnet]>, CloudError> {
        let read = async { Ok::<Arc<[Subnet]>, CallError>(self.aws.subnets(&class.subnets).await?.into()) };
        let subnets = self
            .subnets
            .try_get_with(format!("{:?}", class.subnets), read)
            .await
            .map_err(|error| CallError::shared(&error, |field| class.path(field)))?;
        if subnets.is_empty() {
            self.subnets.invalidate(&format!("{:?}", class.subnets)).await;
            let what = format!("no subnet matches {}", described(&class.subnets));
            return Err(class.misconfigured(Field::Subnets, what));
        }
        Ok(subnets)
    }

    /// Forgets the class's subnets, so that their free addresses are read again.
    pub(crate) async fn forget_subnets(&self, class: &Class) {
        self.subnets.invalidate(&format!("{:?}", class.subnets)).await;
    }

    /// The class's security groups. `Misconfigured` if there are none.
    pub(crate) async fn security_groups(&self, class: &Class) -> Result<Arc<[String]>, CloudError> {
        let key = format!("{:?}", class.security_groups);
        let read =
            async { Ok::<Arc<[String]>, CallError>(self.aws.security_groups(&class.security_groups).await?.into()) };
        let groups = self
            .security_groups
            .try_get_with(key.clone(), read)
            .await
            .map_err(|error| CallError::shared(&error, |field| class.path(field)))?;
        if groups.is_empty() {
            self.security_groups.invalidate(&key).await;
            let what = format!("no security group matches {}", described(&class.security_groups));
            return Err(class.misconfigured(Field::SecurityGroups, what));
        }
        Ok(groups)
    }

    /// The image for a variant; `None` if the class has none for it.
    pub(crate) async fn image(&self, class: &Class, variant: Variant) -> Result<Option<String>, CloudError> {
        let shared = |error: Arc<CallError>| CallError::shared(&error, |field| class.path(field));
        match &class.images {
            Images::Alias { version } => {
                let Some(name) = images::parameter(class.family, version, variant, &self.settings) else {
                    return Ok(None);
                };
                self.images.try_get_with(name.clone(), self.aws.parameter(&name)).await.map_err(shared)
            }
            Images::Parameter(names) => {
                // Each may be for another architecture: ask the images themselves.
                let mut ids = BTreeSet::new();
                for name in names {
                    let id = self.images.try_get_with(name.clone(), self.aws.parameter(name)).await.map_err(shared)?;
                    ids.extend(id);
                }
                if ids.is_empty() {
                    return Ok(None);
                }
                self.selected(class, vec![crate::class::Selector { ids, ..Default::default() }], variant).await
            }
            Images::Selected(selectors) => self.selected(class, selectors.clone(), variant).await,
        }
    }

    async fn selected(
        &self,
        class: &Class,
        selectors: Vec<crate::class::Selector>,
        variant: Variant,
    ) -> Result<Option<String>, CloudError> {
        let read = async {
            let found = self.aws.images(&selectors).await?;
            Ok::<_, CallError>(images::newest(&found).get(&variant.arch).map(|id| (*id).to_owned()))
        };
        self.images
            .try_get_with(format!("{selectors:?} {:?}", variant.arch), read)
            .await
            .map_err(|error| CallError::shared(&error, |field| class.path(field)))
    }

    /// The types of a class, with their offerings.
    pub(crate) async fn offers(&self, class: &Class, kubelet: &Kubelet) -> Result<Vec<InstanceType>, CloudError> {
        let (catalogue, subnets) = tokio::try_join!(self.catalogue(), self.subnets(class))?;
        self.wait_for_prices().await;
        let types: Vec<TypeInfo> = catalogue.types.values().cloned().collect();
        let zones: BTreeSet<String> = subnets.iter().map(|subnet| subnet.zone.clone()).collect();
        let prices = lock(&self.prices).clone();
        let unavailable = lock(&self.unavailable);
        let now = Instant::now();
        let open = |zone: &str| subnets.iter().any(|it| it.zone == zone && !unavailable.is_full(&it.id, now));
        let full_zones = zones.iter().filter(|zone| !open(zone)).cloned().collect();
        let sources = Sources {
            types: &types,
            zones_of_type: &catalogue.zones_of_type,
            zones: &zones,
            full_zones: &full_zones,
            prices: &prices,
            unavailable: &unavailable,
            region: &self.region,
        };
        Ok(offers::compose(&sources, class, kubelet, &self.settings, now))
    }

    /// The refused offerings.
    pub(crate) fn unavailable(&self) -> MutexGuard<'_, Unavailable> {
        lock(&self.unavailable)
    }

    /// What the offering costs at AWS, as far as is known now.
    pub(crate) fn price(&self, key: &OfferingKey) -> Option<UsdMicrosPerHour> {
        lock(&self.prices).of(&key.instance_type, &key.zone, key.capacity_type)
    }

    async fn wait_for_prices(&self) {
        let mut read = self.prices_read.subscribe();
        // When patience ends, or the reader is gone, the shipped table will do.
        let _ = tokio::time::timeout(PRICES_PATIENCE, read.wait_for(|read| *read)).await;
    }

    /// Reads prices for ever, twice a day. Failing is no more than a warning: there is always a table.
    pub(crate) async fn keep_prices(&self) {
        loop {
            self.read_prices().await;
            self.prices_read.send_replace(true);
            tokio::time::sleep(PRICES_AGE).await;
        }
    }

    async fn read_prices(&self) {
        let on_demand = async {
            if self.settings.isolated_vpc {
                return;
            }
            match self.aws.on_demand_prices(&self.region).await {
                Ok(prices) => {
                    debug!(prices = prices.len(), "read on-demand prices");
                    lock(&self.prices).take_on_demand(prices);
                }
                Err(error) => {
                    warn!(cause = %error.chain(), "on-demand prices are those that were shipped or read before");
                }
            }
        };
        let spot = async {
            match self.aws.spot_prices(SystemTime::now()).await {
                Ok(prices) => {
                    debug!(prices = prices.len(), "read spot prices");
                    lock(&self.prices).take_spot(prices);
                }
                Err(error) => warn!(cause = %error.chain(), "spot prices are those that were read before, or guessed"),
            }
        };
        tokio::join!(on_demand, spot);
    }
}
