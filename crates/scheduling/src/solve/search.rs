//! The state of one solve: nodes, kinds and counts, and the only definition of what fits.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use requirements::{Requirements, labels};

use super::{
    ask::Ask,
    axis::{self, Axis},
    bits::Bits,
    bundles::Seen,
    existing::{Existing, Refusal},
    kind::{self, Kind, Shape},
    limits::Left,
    map::{Map, Set},
    named::Named,
    node_labels::labels_of,
    open::{Fit, Open, Put},
    relations::{Groups, Place, Relation},
    running::Repelling,
    template::{Choice, Template},
    topology::{Here, Seat, Spot, Topology},
    twins::Twins,
    wishes::{Asked, Turn, World},
};
use crate::{NodeStage, Pod, PodKey, Settings, Snapshot, Unfit};

/// Groups that count pods, and such groups that do so no more.
type Counting = (Vec<(usize, Place)>, Vec<(usize, Place)>);

/// See the module. A plan that is tried begins with a copy of the state: what does not change in a solve is shared.
///
/// Places are found by [`Search::find_existing`], [`Search::find_open`] and [`Search::open_for`], tested by
/// [`Search::fits_existing`] and [`Search::fits_open`], and taken by [`Search::put_on_existing`] and
/// [`Search::put_on_open`]. Whoever has a plan opens its nodes by [`Search::open_with`] and puts the pods there one by one.
#[derive(Clone)]
pub(super) struct Search<'a> {
    pub(super) settings: &'a Settings,
    pub(super) axis: &'a Axis,
    pub(super) existing: Vec<Existing<'a>>,
    pub(super) templates: Rc<[Template<'a>]>,
    pub(super) open: Vec<Open<'a>>,
    pub(super) kinds: Vec<Kind<'a>>,
    pub(super) topology: Topology<'a>,
    pub(super) left: Left,
    asked: Rc<[Asked<'a>]>,
    /// By number of pods written alike: the kinds of their stages, as far as they were needed.
    stages: Vec<Vec<usize>>,
    /// By number of pods written alike: groups that others wait for them to begin.
    free_member_of: Rc<[Vec<usize>]>,
    /// By number of pods written alike: when they come.
    pub(super) turns: Rc<[Turn]>,
    shapes: Map<Rc<Shape<'a>>, usize>,
    twins: Rc<Twins<'a>>,
    /// By label and domain: the nodes there are.
    pub(super) existing_in: Rc<[BTreeMap<u32, Vec<usize>>]>,
    /// By label and domain: the nodes opened, in the order in which they came there.
    pub(super) open_in: Vec<BTreeMap<u32, Vec<usize>>>,
    /// By label: the nodes opened that had not decided it.
    pub(super) undecided: Vec<Vec<usize>>,
    /// Nodes by the values of labels of which pods name very many.
    named: Named<'a>,
    /// By group, and the most pods of it that a node may have: all nodes opened before this one have more.
    pub(super) crowded: BTreeMap<(usize, u32), usize>,
    /// The nodes there are that have taints.
    pub(super) tainted: Rc<[usize]>,
    /// By resource: the most that any node there is has left before this solve.
    roomiest: Rc<[i64]>,
    placed: usize,
    pub(super) work: u64,
}

impl<'a> Search<'a> {
    /// Reads a snapshot and the pods to place; pods of the same number are alike. Those that cannot be understood get their
    /// reasons.
    pub(super) fn new(
        snapshot: &'a Snapshot,
        settings: &'a Settings,
        axis: &'a Axis,
        distinct: &[&'a Pod],
        pending: impl Fn(&PodKey) -> bool,
    ) -> (Self, Vec<Result<usize, Vec<Unfit>>>) {
        let daemons = kind::daemons(snapshot, axis);
        let mut pools: Vec<_> = snapshot.pools.iter().collect();
        pools.sort_by_key(|pool| (std::cmp::Reverse(pool.weight), &pool.key));
        let mut templates: Vec<_> =
            pools.into_iter().map(|pool| Template::new(pool, snapshot, axis, &daemons)).collect();
        let preferred_taint = |taint: &crate::Taint| taint.effect == crate::TaintEffect::PreferNoSchedule;
        let tainted = templates.iter().any(Template::has_preferred_taint)
            || snapshot.nodes.iter().any(|node| node.taints.iter().any(preferred_taint));
        let keys: Set<&str> = snapshot.nodes.iter().flat_map(|node| node.labels.keys()).map(String::as_str).collect();
        let present: BTreeSet<&str> = keys.into_iter().map(labels::normalize).collect();
        let borne = |key: &str| {
            let key = labels::normalize(key);
            let can = |template: &Template<'_>| template.is_of_the_machine(key) || template.base.get(key).is_some();
            key == labels::HOSTNAME || present.contains(key) || templates.iter().any(can)
        };
        let staying = snapshot.nodes.iter().filter(|node| node.stage != NodeStage::Leaving);
        let mut existing: Vec<_> = staying.map(|node| Existing::new(node, axis, &daemons)).collect();
        existing.sort_by_key(|one| (one.node.stage, &one.node.key));
        let keeps_values = !settings.relax_min_values;
        let has_place = |pod: &Pod, alternatives: &[Requirements]| {
            let ask = Ask::of(pod, axis);
            templates.iter().any(|one| one.may_take(pod, alternatives, &ask, keeps_values))
                || existing.iter().any(|one| one.may_take(pod, alternatives, &ask))
        };
        let world = World { settings, tainted, borne: &borne, has_place: &has_place };
        let mut groups = Groups::new(&snapshot.namespace_labels);
        let mut asked = Vec::new();
        let read = distinct.iter().map(|pod| {
            asked.push(Asked::new(pod, &mut groups, &world)?);
            Ok(asked.len() - 1)
        });
        let numbers = read.collect();
        let repelling = Repelling::of(snapshot, &mut groups, &pending);
        let mut topology = Topology::new(groups);
        let wanted = |key: &str| asked.iter().flat_map(|one: &Asked<'_>| one.wanted(key)).cloned().collect();
        topology.name_domains(&snapshot.nodes, &mut templates, wanted);
        for one in &mut existing {
            one.seats = topology.seats(one.node);
        }
        let mut asks: BTreeMap<usize, BTreeSet<Ask<'_>>> = BTreeMap::new();
        for one in &asked {
            for group in one.all_spreads() {
                asks.entry(group).or_default().insert(Ask::of(one.pod, axis));
            }
        }
        let asks = asks.into_iter().map(|(group, asked)| (group, Ask::least(asked))).collect();
        let kept: Vec<_> =
            snapshot.nodes.iter().filter(|node| node.stage == NodeStage::Leaving && node.stays()).collect();
        topology.find_domains(&existing, &kept, &templates, &asks);
        topology.find_outside(&templates);
        let left = Left::new(&mut templates);
        let groups = &topology.groups;
        let demanded: BTreeSet<usize> =
            asked.iter().flat_map(Asked::spreads).map(|group| groups.first_alike[group]).collect();
        let turn = |one: &Asked<'a>| if demanded.is_empty() { Turn::Last } else { one.turn(groups, &demanded) };
        let turns = asked.iter().map(turn).collect();
        let twins = Rc::new(Twins::of(&snapshot.nodes, &existing));
        let keys = topology.groups.keys.len();
        let named = Named::new(&asked, &existing);
        let mut search = Self {
            settings,
            axis,
            existing,
            templates: templates.into(),
            open: Vec::new(),
            kinds: Vec::new(),
            topology,
            left,
            stages: vec![Vec::new(); asked.len()],
            asked: asked.into(),
            free_member_of: Rc::default(),
            turns,
            shapes: Map::default(),
            twins,
            existing_in: Rc::default(),
            open_in: vec![BTreeMap::new(); keys],
            undecided: vec![Vec::new(); keys],
            named,
            crowded: BTreeMap::new(),
            tainted: Rc::default(),
            roomiest: Rc::default(),
            placed: 0,
            work: 0,
        };
        let mut roomiest = vec![i64::MIN; search.axis.len()];
        for one in &search.existing {
            axis::max(&mut roomiest, &one.free);
        }
        search.roomiest = roomiest.into();
        search.tainted = (0..search.existing.len()).filter(|index| search.existing[*index].is_tainted()).collect();
        search.sort_existing_by_domain();
        if !search.topology.groups.is_empty() {
            search.count_bound(snapshot, &repelling, pending);
        }
        (search, numbers)
    }

    fn sort_existing_by_domain(&mut self) {
        let mut existing_in: Vec<BTreeMap<u32, Vec<usize>>> = vec![BTreeMap::new(); self.topology.groups.keys.len()];
        for (index, one) in self.existing.iter().enumerate() {
            for (key, seat) in one.seats.iter().enumerate() {
                if let Seat::In(domain) = seat {
                    existing_in[key].entry(*domain).or_default().push(index);
                }
            }
        }
        self.existing_in = existing_in.into();
    }

    /// Counts the pods that run already, those to be placed again excepted.
    fn count_bound(&mut self, snapshot: &'a Snapshot, repelling: &Repelling, pending: impl Fn(&PodKey) -> bool) {
        let mut numbers = Map::default();
        let mut known = Vec::new();
        let positions: BTreeMap<_, _> =
            self.existing.iter().enumerate().map(|(index, one)| (&one.node.key, index)).collect();
        let nodes = snapshot.nodes.iter().enumerate();
        let mut nodes: Vec<_> = nodes.map(|(at, node)| (positions.get(&node.key).copied(), node, at)).collect();
        nodes.sort_by_key(|(position, node, _)| (position.is_none(), *position, &node.key));
        // What a filter says of a node is asked once.
        let said = RefCell::new(Vec::new());
        for (position, node, at) in nodes {
            let gone = position.is_none();
            let (seats, labels) = if gone { (self.topology.seats(node), labels_of(node)) } else { Default::default() };
            said.borrow_mut().clear();
            said.borrow_mut().resize(self.topology.groups.filters.len(), None);
            let mut repelling = repelling.on(at).peekable();
            // Those written alike are counted together.
            let mut pods: BTreeMap<usize, u32> = BTreeMap::new();
            let mut owners = Vec::new();
            for (at, pod) in node.pods.iter().enumerate() {
                let repels = repelling.next_if(|(position, _)| *position == at).map_or(&[][..], |(_, groups)| groups);
                let written = (pod.key.namespace.as_str(), &pod.labels, pod.terminating);
                let number = *numbers.entry(written).or_insert_with(|| {
                    known.push(self.counting(pod));
                    known.len() - 1
                });
                let (counted, no_company) = &known[number];
                if (counted.is_empty() && no_company.is_empty() && repels.is_empty()) || pending(&pod.key) {
                    continue;
                }
                *pods.entry(number).or_default() += 1;
                owners.extend(repels);
            }
            for (number, pods) in pods {
                let (counted, no_company) = &known[number];
                let spot = position.map(Spot::Existing);
                if let Some(position) = position {
                    let one = &mut self.existing[position];
                    self.topology.record_going(no_company, &one.seats, Some((position, &mut one.here)));
                    let seen = Seen::There { node, labels: &one.labels, said: Some(&said) };
                    self.topology.count(counted, pods, &one.seats, &mut one.here, spot, &seen);
                } else {
                    self.topology.record_going(no_company, &seats, None);
                    let seen = Seen::There { node, labels: &labels, said: Some(&said) };
                    self.topology.count(counted, pods, &seats, &mut Here::default(), spot, &seen);
                }
                for twin in self.twins.beside(node, position) {
                    self.existing[twin].here.count(counted, pods);
                }
            }
            match position.map(|position| &mut self.existing[position]) {
                Some(one) => self.topology.count_owners(&owners, &one.seats, &mut one.here),
                None => self.topology.count_owners(&owners, &seats, &mut Here::default()),
            }
            for twin in self.twins.beside(node, position) {
                self.existing[twin].here.count_owners(&owners);
            }
        }
    }

    /// The groups that count a pod that runs already, and those to whose pods it is no company any more.
    fn counting(&self, pod: &Pod) -> Counting {
        let [mut counted, _] = self.topology.groups.of(&pod.key.namespace, &pod.labels);
        if !pod.terminating {
            return (counted, Vec::new());
        }
        let relation = |group: usize| self.topology.groups.found[group].relation;
        let no_company = counted.extract_if(.., |(group, _)| relation(*group) == Relation::Near).collect();
        counted.retain(|(group, _)| relation(*group) != Relation::Spread);
        (counted, no_company)
    }

    /// The kind of pods of this number with so many of their wishes given up; `None` if there are fewer wishes.
    pub(super) fn kind(&mut self, asked: usize, given_up: usize) -> Option<usize> {
        if given_up > self.asked[asked].wishes() {
            return None;
        }
        // Stages are kept by their number, so none before this one may be left out.
        while self.stages[asked].len() <= given_up {
            let stage = self.stages[asked].len();
            let shape = self.asked[asked].shape(stage, &self.topology.groups, self.axis);
            let kind = self.kind_of(shape);
            self.stages[asked].push(kind);
        }
        Some(self.stages[asked][given_up])
    }

    /// The kinds of pods of this number, with none of their wishes given up, with one, and so on to all of them; those that
    /// have been asked for.
    pub(super) fn stages_of(&self, asked: usize) -> &[usize] {
        &self.stages[asked]
    }

    /// The kind of pods of this shape.
    fn kind_of(&mut self, shape: Shape<'a>) -> usize {
        let (next, shape) = (self.kinds.len(), Rc::new(shape));
        let number = *self.shapes.entry(Rc::clone(&shape)).or_insert(next);
        if number == next {
            let mut kind = Kind {
                shape,
                fresh: Rc::default(),
                cursors: kind::Cursors::default(),
                at_limit: vec![false; self.templates.len()],
                passed: BTreeMap::new(),
                refused_at: None,
            };
            kind.fresh = self.templates.iter().map(|template| template.fresh(&kind)).collect();
            self.kinds.push(kind);
        }
        number
    }

    /// Whether any node of the snapshot may have room for a pod of the kind: most pods wait because none has.
    pub(super) fn may_fit_existing(&self, kind: usize) -> bool {
        axis::fits(&self.kinds[kind].shape.request, &self.roomiest)
    }

    /// The nodes of the snapshot that may take a pod of the kind, in order, as far as that is seen without looking at each.
    pub(super) fn existing_to_try(&self, kind: usize) -> impl Iterator<Item = usize> {
        let named = self.existing_named(kind, 0);
        let all = 0..if named.is_none() { self.existing.len() } else { 0 };
        named.into_iter().flatten().chain(all)
    }

    /// The nodes of the snapshot from this one on outside which all refuse a pod of the kind for its labels, in order, if these
    /// are listed.
    pub(super) fn existing_named(&self, kind: usize, from: usize) -> Option<Vec<usize>> {
        self.named.existing(&self.kinds[kind].shape, from)
    }

    /// The same of the nodes opened; `None` also if these are about as many as all.
    pub(super) fn open_named(&self, kind: usize, from: usize) -> Option<Vec<usize>> {
        self.named.open(&self.kinds[kind].shape, from, self.open.len())
    }

    /// Whether a node of the snapshot takes one more pod of the kind, or what keeps it away.
    pub(super) fn fits_existing(&self, kind: usize, index: usize) -> Result<(), Refusal> {
        self.existing[index].fits(&self.kinds[kind], &self.topology)
    }

    /// Whether a node opened by this solve takes one more pod of the kind, and what it would be then.
    pub(super) fn fits_open(&self, kind: usize, index: usize) -> Result<Fit, Refusal> {
        let open = &self.open[index];
        open.fits(&self.templates[open.template], &self.kinds[kind], kind, &self.topology)
    }

    /// Puts a pod of the kind on a node of the snapshot that it fits.
    pub(super) fn put_on_existing(&mut self, kind: usize, index: usize) {
        let (one, kind) = (&mut self.existing[index], &self.kinds[kind]);
        one.put(kind);
        let Existing { node, labels, seats, here, .. } = one;
        let seen = Seen::There { node, labels, said: None };
        let (relations, spot) = (&kind.shape.relations, Some(Spot::Existing(index)));
        let looks = self.topology.record(&relations.counted, &relations.repels, seats, here, spot, &seen);
        self.topology.note_demands(relations, seats);
        self.work += looks as u64;
        for twin in self.twins.beside(node, Some(index)) {
            self.existing[twin].here.add(&relations.counted, &relations.repels);
        }
        self.placed += 1;
    }

    /// Puts a pod of the kind on an opened node that it fits so.
    pub(super) fn put_on_open(&mut self, kind: usize, index: usize, fit: Fit, pod: &'a Pod) {
        let put = Put { pod, kind, turn: self.placed };
        let (open, kind) = (&mut self.open[index], &self.kinds[kind]);
        let template = &self.templates[open.template];
        let decided = fit.decided.clone();
        let may_change = fit.requirements.is_some()
            || !decided.is_empty()
            || self.topology.is_counted_by_labels(&kind.shape.relations.counted);
        let before = (may_change || !template.counted.is_empty()).then(|| (open.charge.clone(), open.choices.clone()));
        let changes = open.put(template, kind, &self.topology, fit, put);
        if let Some((charge, choices)) = before {
            self.left.recharge(template, open, &charge, &choices);
        }
        if changes {
            self.named.note(index, &open.requirements);
        }
        for (key, domain) in decided {
            if let Some(domain) = domain {
                self.open_in[key].entry(domain).or_default().push(index);
                self.topology.note_domain(key, domain, (open.template, template), (&open.requirements, &open.choices));
            }
        }
        if !template.min_values.is_empty() {
            for (key, domain) in self.topology.may_bring(open.template, &open.seats, &open.choices) {
                self.topology.note_domain(key, domain, (open.template, template), (&open.requirements, &open.choices));
            }
        }
        let (relations, spot) = (&kind.shape.relations, Some(Spot::Open(index)));
        let Open { requirements, seats, here, counts, .. } = open;
        let seen = Seen::New { template, requirements, counts };
        let looks = self.topology.record(&relations.counted, &relations.repels, seats, here, spot, &seen);
        self.topology.note_demands(relations, seats);
        // A group whose pods say where they count is as much work as a look at a node.
        self.work += looks as u64;
        self.placed += 1;
    }

    /// Whether pods of this number have wishes that nobody could grant, and that were given up before anything was placed.
    pub(super) fn is_in_vain(&self, asked: usize) -> bool {
        self.asked[asked].is_in_vain
    }

    /// The kind that is left of pods of this number when all their wishes are given up.
    pub(super) fn least_kind(&mut self, asked: usize) -> usize {
        let wishes = self.asked[asked].wishes();
        self.kind(asked, wishes).expect("there is a kind with every wish given up")
    }

    /// Whether pods of this number that find no place may find one later in this solve.
    pub(super) fn may_change(&self, asked: usize) -> bool {
        self.stages[asked]
            .iter()
            .map(|kind| &self.kinds[*kind])
            .any(|kind| kind.met_a_limit() || kind.shape.relations.may_change())
    }

    /// Begins another round: what pools, and other pods, stood in the way of may be otherwise now.
    pub(super) fn try_again(&mut self) {
        for kind in &mut self.kinds {
            kind.at_limit.fill(false);
            kind.refused_at = None;
        }
    }

    /// Says that pods of these numbers are to be placed, each as often as it is named.
    pub(super) fn expect_pods(&mut self, asked: impl Iterator<Item = usize>) {
        if self.free_member_of.is_empty() {
            let groups = &self.topology.groups;
            self.free_member_of = self.asked.iter().map(|one| one.free_member_of(groups)).collect();
        }
        for one in asked {
            self.free_member_of[one].iter().for_each(|group| self.topology.await_pods(*group, 1));
        }
    }

    /// Says that pods of these numbers may bring domains into spreads.
    pub(super) fn expect_domains(&mut self, asked: impl Iterator<Item = usize>) {
        if self.topology.has_outside() {
            let asked: BTreeSet<usize> = asked.collect();
            let kinds: BTreeSet<usize> = asked.into_iter().map(|one| self.least_kind(one)).collect();
            let kinds: Vec<&Kind<'_>> = kinds.into_iter().map(|kind| &self.kinds[kind]).collect();
            self.topology.expect_domains(&kinds);
        }
    }

    /// Gives up expecting domains that nobody has brought, as far as the new nodes that could become one can stay out of it. Whether
    /// there were any.
    pub(super) fn stop_expecting(&mut self) -> bool {
        let mut is_given_up = false;
        for expected in self.topology.not_brought() {
            let (key, domain) = expected;
            let outside = |node: &Open<'_>| {
                let template = &self.templates[node.template];
                let mut left = node.choices.clone();
                if node.seats[key] == Seat::Undecided {
                    left.remove_all(&template.choices_in(key, &[domain]));
                }
                let enough = node.is_relaxed() || template.too_few_values(&left).is_none();
                (!left.is_empty() && enough).then_some(left)
            };
            let Some(left) = self.open.iter().map(outside).collect::<Option<Vec<Bits>>>() else { continue };
            for (node, left) in self.open.iter_mut().zip(left) {
                if left != node.choices {
                    let (charge, before) = (node.charge.clone(), node.choices.clone());
                    node.keep(&self.templates[node.template], left);
                    self.left.recharge(&self.templates[node.template], node, &charge, &before);
                }
            }
            self.topology.stop_expecting(expected);
            is_given_up = true;
        }
        is_given_up
    }

    /// Says that a pod of this number has a place: those that must be near it need not wait for it any longer.
    pub(super) fn has_place(&mut self, asked: usize) {
        self.free_member_of[asked].iter().for_each(|group| self.topology.await_less(*group));
    }

    /// What is bought for an opened node, and for how many pods.
    pub(super) fn bought(&self, index: usize) -> (&Choice<'a>, usize) {
        let open = &self.open[index];
        open.bought(&self.templates[open.template], self.settings.max_alternatives)
    }

    /// How many pods have been put anywhere.
    pub(super) fn placed(&self) -> usize {
        self.placed
    }
}
