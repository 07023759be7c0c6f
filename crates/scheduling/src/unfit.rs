use std::fmt;

use requirements::{Requirement, labels};
use serde::{Deserialize, Serialize};
use units::{Amount, Quantity, ResourceName};

use crate::{HostPort, Pod, PodKey, PoolKey, Taint};

/// Why a pod could not be placed, or not in one pool.
///
/// A pod's reasons are ordered by how near it came: the first is the one to act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Unfit {
    /// There is no pool at all.
    NoPools,
    /// The pod and the pool want different labels, or no type of the pool can have the label.
    Requirement {
        /// Which pool.
        pool: PoolKey,
        /// The label.
        key: String,
        /// What the pod wants of it.
        wanted: Requirement,
        /// What it can be there; `None` when nothing defines it.
        has: Option<Requirement>,
        /// Whether the pod's volumes are what wants it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_volumes: bool,
        /// How many alternatives (`nodeSelectorTerms`) the pod gives, where not all of them want this; else 0.
        #[serde(default, skip_serializing_if = "is_zero")]
        of_terms: usize,
    },
    /// The pool's nodes have a taint that the pod does not tolerate.
    Taint {
        /// Which pool.
        pool: PoolKey,
        /// The taint.
        taint: Taint,
    },
    /// No type of the pool that has the right labels is large enough.
    Resource {
        /// Which pool.
        pool: PoolKey,
        /// What there is too little of.
        name: ResourceName,
        /// What the pod asks for.
        asked: Amount,
        /// The most that is free on any of the types, after daemons and overhead.
        largest_free: Amount,
        /// What daemons take on that one.
        #[serde(default)]
        daemons: Amount,
    },
    /// The pool's limit leaves too little.
    Limit {
        /// Which pool.
        pool: PoolKey,
        /// What is limited.
        resource: ResourceName,
        /// The limit.
        limit: Amount,
        /// What is used of it, with the nodes this solve has added.
        used: Amount,
        /// What the smallest node that would do has of it.
        would_add: Amount,
    },
    /// The cloud has none of the offerings that would do.
    NoOffering {
        /// Which pool.
        pool: PoolKey,
        /// How many offerings would do, if they were available.
        unavailable: usize,
        /// How many of these are available, and reserved for other new nodes of this plan.
        #[serde(default)]
        used_up: usize,
    },
    /// Nothing that can be bought meets a requirement of the pool's own.
    NothingOffered {
        /// Which pool.
        pool: PoolKey,
        /// What it requires.
        wanted: Requirement,
        /// What its instance types have of it; `None` if they have no such label.
        offered: Option<Requirement>,
    },
    /// Fewer different values of a label remain possible than the pool demands.
    MinValues {
        /// Which pool.
        pool: PoolKey,
        /// The label.
        key: String,
        /// How many are demanded.
        needed: u32,
        /// How many remain.
        found: usize,
    },
    /// A daemon on the pool's nodes has the port.
    HostPort {
        /// Which pool.
        pool: PoolKey,
        /// The port.
        port: HostPort,
    },
    /// No value of a topology would leave the pod's spread within its skew.
    TopologySpread {
        /// Which pool.
        pool: PoolKey,
        /// The label whose values are the domains.
        key: String,
        /// How much fuller than the emptiest a domain may be.
        max_skew: u32,
        /// The domains that the pod's other demands and the pool leave open, with how many pods are in each, the emptiest
        /// first; at most the first ten.
        domains: Vec<(String, u32)>,
        /// Domains with fewer pods, which are not open to the pod in this pool but count; at most the first ten.
        #[serde(default)]
        emptier: Vec<(String, u32)>,
        /// How many domains there are and how many there should be (`minDomains`), if there are too few: the emptiest counts
        /// as empty then.
        #[serde(default)]
        too_few_domains: Option<(usize, u32)>,
    },
    /// The pods it must be near are nowhere that the pool can have nodes.
    PodAffinity {
        /// Which pool.
        pool: PoolKey,
        /// The label whose equal values mean *near*.
        key: String,
        /// The domains in which there are such pods; at most the first ten.
        domains: Vec<String>,
        /// What these have too little of, where each is a node.
        #[serde(default)]
        shortage: Option<Shortage>,
    },
    /// Pods it must be away from, or that must be away from it, are everywhere that the pool can have nodes.
    PodAntiAffinity {
        /// Which pool.
        pool: PoolKey,
        /// The label whose equal values mean *near*.
        key: String,
        /// Whether it is the others that must not have the pod near them.
        #[serde(default)]
        by_others: bool,
    },
    /// The pool's first node there would bring domains into spreads that are uneven with them: those of pods that this plan places
    /// elsewhere. It may come once these run.
    NewDomain {
        /// Which pool.
        pool: PoolKey,
        /// The label whose values are the domains.
        key: String,
        /// The domains; at most the first ten.
        domains: Vec<String>,
    },
    /// The pool takes no part: something is wrong with what is written of it.
    PoolRefused {
        /// Which pool.
        pool: PoolKey,
        /// The field, and what is wrong with it.
        why: String,
    },
    /// The pool's own labels and requirements leave nothing.
    Contradiction {
        /// Which pool.
        pool: PoolKey,
        /// The label on which they contradict each other.
        key: String,
    },
    /// How many nodes there are, and what kept the pod from them.
    Nodes(NodeRefusals),
    /// The pod demands what the solver cannot reckon with yet.
    NotSupportedYet {
        /// Which demand.
        what: String,
    },
    /// The pod could not be understood.
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// The pod is of use only together with others, and there is no place for enough of them.
    Gang {
        /// The group.
        group: String,
        /// How many of its pods have to run at once.
        needed: u32,
        /// How many run or could have had a place.
        found: usize,
        /// How many there are.
        of: usize,
    },
    /// A volume claim of the pod is for one pod alone (`ReadWriteOncePod`), and another pod has it.
    ClaimInUse {
        /// The claim's name; it is in the pod's namespace.
        claim: String,
        /// Which pod has it.
        by: PodKey,
        /// Whether that one runs; if not, it is to be placed, too, and comes first.
        runs: bool,
    },
    /// The solve's budget of work ended before this pod's turn.
    NotTried,
}

/// What nodes have too little of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shortage {
    /// The resource.
    pub name: ResourceName,
    /// What the pod asks for.
    pub asked: Amount,
    /// The most that is free on any of them.
    pub largest_free: Amount,
}

/// The first thing that kept a pod from each of the nodes there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRefusals {
    /// Nodes with a taint it does not tolerate.
    pub taint: usize,
    /// Nodes with other labels.
    pub requirement: usize,
    /// Nodes with too little free.
    pub resource: usize,
    /// Nodes on which one of its ports is taken.
    pub host_port: usize,
    /// Nodes that cannot attach so many volumes more.
    #[serde(default)]
    pub volume_limit: usize,
    /// Nodes where its spread, affinity or anti-affinity does not let it go.
    #[serde(default)]
    pub topology: usize,
}

impl NodeRefusals {
    /// How many nodes were looked at.
    pub fn total(&self) -> usize {
        self.taint + self.requirement + self.resource + self.host_port + self.volume_limit + self.topology
    }

    /// How many nodes refused it for what, the nearest first.
    pub fn kinds(&self) -> [(usize, &'static str); 6] {
        [
            (self.resource, "too full"),
            (self.host_port, "port taken"),
            (self.volume_limit, "no more volumes"),
            (self.topology, "kept away by spread or affinity"),
            (self.requirement, "other labels"),
            (self.taint, "taint not tolerated"),
        ]
    }
}

impl Unfit {
    /// How far from a placement this is: what is nearer comes first among a pod's reasons.
    ///
    /// A limit or missing offerings can be lifted by a person or by time; wrong labels were never going to fit. Among reasons
    /// of one kind that one is nearer which lacks less of what is needed.
    pub(crate) fn distance(&self) -> Distance {
        let kind = match self {
            Self::Invalid { .. } | Self::NotSupportedYet { .. } | Self::NoPools => 0,
            Self::NotTried | Self::Gang { .. } | Self::ClaimInUse { .. } => 1,
            Self::NoOffering { unavailable, .. } if *unavailable > 0 => 2,
            Self::PoolRefused { .. } | Self::Limit { .. } | Self::NewDomain { .. } => 3,
            Self::MinValues { .. } => 4,
            Self::HostPort { .. }
            | Self::TopologySpread { .. }
            | Self::PodAffinity { .. }
            | Self::PodAntiAffinity { .. } => 5,
            Self::Resource { .. } => 6,
            Self::Requirement { .. } => 7,
            Self::Taint { .. } => 8,
            Self::NoOffering { .. } | Self::NothingOffered { .. } | Self::Contradiction { .. } => 9,
            Self::Nodes(_) => 10,
        };
        Distance { kind, lacking_ppm: self.lacking_ppm() }
    }

    /// Says so where it is the pod's volumes that want something.
    pub(crate) fn name_volumes(&mut self, pod: &Pod) {
        if let Self::Requirement { key, by_volumes, .. } = self {
            *by_volumes = pod.volume_zones.iter().any(|term| labels::normalize(&term.key) == key);
        }
    }

    /// How much is missing of what is needed, in millionths of that; 0 where neither is an amount.
    fn lacking_ppm(&self) -> i128 {
        let (needed, there): (i128, i128) = match self {
            Self::Resource { asked, largest_free, .. } => (asked.0.into(), largest_free.0.into()),
            Self::Limit { limit, used, would_add, .. } => {
                (would_add.0.into(), i128::from(limit.0) - i128::from(used.0))
            }
            Self::MinValues { needed, found, .. } => {
                ((*needed).into(), i64::try_from(*found).unwrap_or(i64::MAX).into())
            }
            Self::PodAffinity { shortage: Some(shortage), .. } => {
                (shortage.asked.0.into(), shortage.largest_free.0.into())
            }
            _ => (0, 0),
        };
        (needed - there).max(0) * 1_000_000 / needed.max(1)
    }

    /// The pool it speaks of, if it speaks of one.
    pub fn pool(&self) -> Option<&PoolKey> {
        match self {
            Self::Requirement { pool, .. }
            | Self::Taint { pool, .. }
            | Self::Resource { pool, .. }
            | Self::Limit { pool, .. }
            | Self::NoOffering { pool, .. }
            | Self::NothingOffered { pool, .. }
            | Self::MinValues { pool, .. }
            | Self::HostPort { pool, .. }
            | Self::TopologySpread { pool, .. }
            | Self::PodAffinity { pool, .. }
            | Self::PodAntiAffinity { pool, .. }
            | Self::NewDomain { pool, .. }
            | Self::PoolRefused { pool, .. }
            | Self::Contradiction { pool, .. } => Some(pool),
            Self::NoPools
            | Self::Nodes(_)
            | Self::NotSupportedYet { .. }
            | Self::Invalid { .. }
            | Self::Gang { .. }
            | Self::ClaimInUse { .. }
            | Self::NotTried => None,
        }
    }
}

/// How far a reason is from a placement; the less, the nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Distance {
    kind: u8,
    lacking_ppm: i128,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// An amount that is asked for. What is too much to be counted is held at the most that can be.
fn asked_for(name: &ResourceName, amount: Amount) -> String {
    match amount {
        Amount(i64::MAX) if name.is_bytes() => "8Ei or more".to_owned(),
        amount => Quantity::of(name, amount).to_string(),
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPools => f.write_str("there is no Provisioner and no NodePool that could make a node"),
            Self::Requirement { pool, wanted, has, by_volumes, of_terms, .. } => {
                let what = if *by_volumes { "its volumes want" } else { "wants" };
                match has {
                    _ if wanted.is_empty() => {
                        let volumes = if *by_volumes { ", with those of its volumes," } else { "" };
                        write!(f, "{pool}: its own demands{volumes} leave no value of {}", wanted.key())
                    }
                    Some(has) => write!(f, "{pool}: {what} {wanted}, has {has}"),
                    None => write!(f, "{pool}: {what} {wanted}, which nothing defines"),
                }?;
                match of_terms {
                    0 => Ok(()),
                    terms => write!(f, " (by one of its {terms} nodeSelectorTerms)"),
                }
            }
            Self::Taint { pool, taint } => write!(f, "{pool}: taint {taint} is not tolerated"),
            Self::Resource { pool, name, asked, largest_free, daemons } => {
                let (asked, free) = (asked_for(name, *asked), Quantity::of(name, *largest_free));
                write!(f, "{pool}: asks for {asked} of {name}, the largest node has {free} free")?;
                if largest_free.0 == 0 && daemons.0 > 0 {
                    write!(f, ": the DaemonSets on it ask for {}", Quantity::of(name, *daemons))?;
                }
                Ok(())
            }
            Self::Limit { pool, resource, limit, used, would_add } => {
                let [limit, used, add] = [limit, used, would_add].map(|amount| Quantity::of(resource, *amount));
                write!(f, "{pool}: limit of {limit} {resource}, {used} used, the smallest node would add {add}")
            }
            Self::NoOffering { pool, unavailable: 0, .. } => write!(f, "{pool}: no instance type is offered"),
            Self::NoOffering { pool, unavailable: 1, used_up: 0 } => {
                write!(f, "{pool}: the one offering that would do is not available now")
            }
            Self::NoOffering { pool, unavailable, used_up: 0 } => {
                write!(f, "{pool}: none of the {unavailable} offerings that would do is available now")
            }
            Self::NoOffering { pool, unavailable: 1, .. } => {
                write!(f, "{pool}: the one offering that would do is reserved, and other new nodes use it up")
            }
            Self::NoOffering { pool, unavailable, used_up } if unavailable == used_up => {
                write!(
                    f,
                    "{pool}: the {unavailable} offerings that would do are reserved, and other new nodes use them up"
                )
            }
            Self::NoOffering { pool, unavailable, used_up } => write!(
                f,
                "{pool}: of the {unavailable} offerings that would do, other new nodes use up the {used_up} reserved, and no other \
                 is available now"
            ),
            Self::NothingOffered { pool, wanted, offered: Some(offered) } => {
                write!(f, "{pool}: it requires {wanted}, its instance types have {offered}")
            }
            Self::NothingOffered { pool, wanted, offered: None } => {
                write!(f, "{pool}: it requires {wanted}, which none of its instance types has")
            }
            Self::MinValues { pool, key, needed, found } => {
                write!(f, "{pool}: minValues of {key} is {needed}, only {found} remain possible")
            }
            Self::HostPort { pool, port } => write!(f, "{pool}: host port {port} is taken by a daemon"),
            Self::TopologySpread { pool, key, max_skew, domains, emptier, too_few_domains } => {
                let counted = |domains: &[(String, u32)]| {
                    let each: Vec<_> = domains.iter().map(|(domain, pods)| format!("{domain} has {pods}")).collect();
                    each.join(", ")
                };
                write!(f, "{pool}: no {key} keeps the spread within a skew of {max_skew}")?;
                if domains.is_empty() { f.write_str(", it has none") } else { write!(f, ": {}", counted(domains)) }?;
                if let Some((found, needed)) = too_few_domains {
                    write!(
                        f,
                        "; with fewer than {needed} of them (minDomains; there are {found}) the emptiest counts as 0"
                    )?;
                }
                if !emptier.is_empty() {
                    write!(f, "; {}, where the pool has no node for it", counted(emptier))?;
                }
                Ok(())
            }
            Self::PodAffinity { pool, key, domains, .. } if domains.is_empty() => {
                write!(f, "{pool}: the pods it must share its {key} with are nowhere yet")
            }
            Self::PodAffinity { pool, key, domains, shortage } => {
                let there = domains.join(", ");
                write!(f, "{pool}: the pods it must share its {key} with are ")?;
                let Some(Shortage { name, asked, largest_free }) = shortage else {
                    return if key == labels::HOSTNAME {
                        write!(f, "on {there}, where it may not be")
                    } else {
                        write!(f, "in {there}, where it can have no node of the pool")
                    };
                };
                let (asked, free) = (Quantity::of(name, *asked), Quantity::of(name, *largest_free));
                write!(f, "on {there}: it asks for {asked} of {name}, the most that is free there is {free}")
            }
            Self::PodAntiAffinity { pool, key, by_others: false } => {
                write!(f, "{pool}: every {key} open to it has pods that it must not share it with")
            }
            Self::PodAntiAffinity { pool, key, by_others: true } => {
                write!(f, "{pool}: every {key} open to it has pods that must not share it with this one")
            }
            Self::NewDomain { pool, key, domains } => write!(
                f,
                "{pool}: a first node in {key} {} would leave pods that are placed elsewhere unevenly spread; it can come when \
                 they run",
                domains.join(", ")
            ),
            Self::PoolRefused { pool, why } => write!(f, "{pool}: not used, {why}"),
            Self::Contradiction { pool, key } => {
                write!(f, "{pool}: its own labels and requirements leave no value of {key}")
            }
            Self::Nodes(refusals) => refusals.fmt(f),
            Self::NotSupportedYet { what } => write!(f, "not supported yet: {what}"),
            Self::Invalid { what } => write!(f, "the pod is not valid: {what}"),
            Self::Gang { group, needed, of, .. } if *of < *needed as usize => {
                write!(f, "its group {group} needs {needed} pods at once and has {of}; nothing is bought for fewer")
            }
            Self::Gang { group, needed, found, of } => write!(
                f,
                "its group {group} needs {needed} pods at once, and there is a place for {found} of {of}; nothing is bought for \
                 fewer"
            ),
            Self::ClaimInUse { claim, by, runs } => {
                let how = if *runs { "has it" } else { "comes first" };
                write!(f, "its volume claim {claim} is for one pod alone (ReadWriteOncePod), and {by} {how}")
            }
            Self::NotTried => f.write_str("the solve ended before this pod's turn; it will be tried again"),
        }
    }
}

/// `0 of 12 nodes fit: 3 taints, 9 too full`
impl fmt::Display for NodeRefusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0 of {} nodes fit", self.total())?;
        let named = self.kinds().into_iter().filter(|(count, _)| *count > 0);
        for (index, (count, what)) in named.enumerate() {
            write!(f, "{}{count} {what}", if index == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}
