//! The report for people.

use std::{collections::BTreeMap, fmt::Write as _};

use scheduling::Target;
use units::UsdMicrosPerHour;

use super::{
    Content, NodeGroup, Report,
    price::{Prices, dearer, exact, with_commas},
    table::{Side, Table},
    wrap::wrapped,
};

/// How many owners of pods are named before the rest is summed up.
const OWNERS_NAMED: usize = 3;
/// How many pods without a place are named.
const PODS_NAMED: usize = 5;
/// How many nodes that are there are listed.
const NODES_NAMED: usize = 20;
/// How many groups of pods without a place are told of.
const REFUSALS_NAMED: usize = 20;
/// How many rows of new nodes of one group are named.
const NUMBERS_NAMED: usize = 4;

/// What the reader sees it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether ANSI escape codes may say what is important.
    pub emphasis: bool,
    /// How many characters fit in a line; `None` for any number.
    pub columns: Option<usize>,
}

impl Look {
    /// Letters only, in lines as long as they come.
    pub const PLAIN: Self = Self { emphasis: false, columns: None };

    fn strong(self, text: &str) -> String {
        self.marked("1", text)
    }

    fn faint(self, text: &str) -> String {
        self.marked("2", text)
    }

    fn marked(self, code: &str, text: &str) -> String {
        if self.emphasis { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The text as it fits on the reader's lines.
    pub(crate) fn fitted(self, text: String) -> String {
        match self.columns {
            Some(columns) => wrapped(&text, columns),
            None => text,
        }
    }
}

impl Report {
    /// The report for people, with a line break at its end.
    pub fn text(&self, look: Look) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            out.push_str(text.trim_end());
            out.push('\n');
        };
        line(look.strong(&self.headline()));
        line(self.counts());
        self.nodes_bought(look, &mut line);
        self.nodes_filled(look, &mut line);
        self.refused(look, &mut line);
        if !self.reasons.is_empty() {
            line(format!("\n{}", look.strong("Why")));
            for reason in &self.reasons {
                line(format!("  {}: {}", counted(reason.count, reason.of), reason.reason));
            }
        }
        let ignored = self.lower_bound_ignores.join(", ");
        let ignores = (!ignored.is_empty() && self.nodes > 0)
            .then(|| format!("the proven minimum does not reckon with {ignored}"));
        let notes: Vec<&String> = self.notes.iter().chain(&ignores).collect();
        if !notes.is_empty() {
            line(format!("\n{}", look.strong("Notes")));
            for note in notes {
                line(format!("  {note}"));
            }
        }
        if let Some(flexibility) = self.flexibility {
            let super::Flexibility { offerings, cost, nodes_with_fewer } = flexibility;
            let offerings = counted(offerings, "offerings");
            line(format!("\n{}", look.strong("Flexibility")));
            line(format!("  with the {offerings} of each new node kept open it costs {} at most", dearer(cost)));
            if nodes_with_fewer > 0 {
                line(format!("  {} fewer to choose from", has(nodes_with_fewer)));
            }
        }
        if let Some(played) = &self.played {
            line(format!("\n{}", look.strong("Played through the kube-scheduler, at worst")));
            played.to_string().lines().for_each(|said| line(said.to_owned()));
        }
        if let Some(placements) = self.placements.as_ref().filter(|placements| !placements.is_empty()) {
            line(format!("\n{}", look.strong("Every pod")));
            let mut table = Table::new(vec![("POD", Side::Left), ("NODE", Side::Left), ("BECAUSE", Side::Left)]);
            let types: BTreeMap<usize, &str> = self
                .new_nodes
                .iter()
                .flat_map(|group| group.indices.iter().map(|index| (*index, group.instance_type.as_str())))
                .collect();
            for placed in placements {
                let node = match &placed.node {
                    Target::Existing(node) => node.to_string(),
                    Target::New(index) => {
                        let kind = types.get(index).copied().unwrap_or_default();
                        format!("{kind} ({})", new_name(*index))
                    }
                };
                table.row(vec![placed.pod.to_string(), node, placed.why.clone()]);
            }
            print(&table, look, &mut line);
        }
        look.fitted(out)
    }

    /// `$239.52/h; proven minimum >= $239.15/h; at most 0.16 % above it. The greedy rule: $349.21/h.`
    fn headline(&self) -> String {
        let bound = self.lower_bound.filter(|_| !self.proven_optimal);
        let prices = Prices::of(self.cost, bound, self.greedy_cost);
        let mut said = prices.cost(self.cost);
        match (self.lower_bound, self.gap()) {
            _ if self.nodes == 0 => "Nothing to buy".clone_into(&mut said),
            _ if self.proven_optimal => said.push_str("; proven minimum"),
            // The minimum is what it costs, but not all pods have a place, so nothing is proven about the plan.
            (Some(bound), Some(0)) => {
                write!(said, "; proven minimum >= {}", prices.bound(bound)).expect(INFALLIBLE);
            }
            (Some(bound), Some(gap)) => {
                let percent = format!("{}.{:02}", gap / 100, gap % 100);
                let bound = prices.bound(bound);
                write!(said, "; proven minimum >= {bound}; at most {percent} % above it").expect(INFALLIBLE);
            }
            _ => said.push_str("; no minimum is proven"),
        }
        said.push('.');
        if let Some(greedy) = self.greedy_cost.filter(|_| self.nodes > 0) {
            write!(said, " The greedy rule: {}", prices.cost(greedy)).expect(INFALLIBLE);
            match self.greedy_leaves_out {
                0 => said.push('.'),
                pods => {
                    write!(said, " without a place for {} of these pods.", grouped(pods)).expect(INFALLIBLE);
                }
            }
        }
        said
    }

    fn counts(&self) -> String {
        let mut parts = Vec::new();
        if self.nodes > 0 {
            parts.push(format!("{} on {}", grouped(self.pods_on_new_nodes), counted(self.nodes, "new nodes")));
        }
        for under_way in [false, true] {
            let nodes = || self.existing_nodes.iter().filter(|node| node.under_way == under_way);
            let pods: usize = nodes().flat_map(|node| &node.contents).map(|content| content.pods).sum();
            let which = match nodes().count() {
                0 => continue,
                _ if under_way => "under way",
                1 => "that is there",
                _ => "that are there",
            };
            parts.push(format!("{} on {} {which}", grouped(pods), counted(nodes().count(), "nodes")));
        }
        if self.unplaced > 0 {
            parts.push(format!("{} without a place", grouped(self.unplaced)));
        }
        let pods = counted(self.pods, "pods");
        let solved = format!("Solved in {}.", milliseconds(self.solve_milliseconds));
        if parts.is_empty() {
            format!("{pods} to place. {solved}")
        } else {
            format!("{pods}: {}. {solved}", parts.join(", "))
        }
    }

    fn nodes_bought(&self, look: Look, line: &mut impl FnMut(String)) {
        if self.new_nodes.is_empty() {
            return;
        }
        line(format!("\n{}", look.strong("New nodes")));
        let one_pool = self.new_nodes.iter().all(|group| group.pool == self.new_nodes[0].pool);
        let mut columns = vec![
            ("COUNT", Side::Right),
            ("TYPE", Side::Left),
            ("ZONE", Side::Left),
            ("PAID", Side::Left),
            ("EACH", Side::Right),
            ("TOGETHER", Side::Right),
            ("CPU", Side::Right),
            ("MEMORY", Side::Right),
            ("PODS", Side::Right),
            ("WHOSE PODS", Side::Left),
        ];
        if !one_pool {
            columns.insert(1, ("POOL", Side::Left));
        }
        let is_numbered = self.names_new_nodes();
        if is_numbered {
            columns.insert(0, ("NODE", Side::Left));
        }
        let mut table = Table::new(columns);
        for group in &self.new_nodes {
            let mut cells = cells(group);
            if !one_pool {
                cells.insert(1, group.pool.clone());
            }
            if is_numbered {
                cells.insert(0, numbers(&group.indices));
            }
            table.row(cells);
        }
        print(&table, look, line);
    }

    /// Whether anything that is said speaks of new nodes by their numbers.
    fn names_new_nodes(&self) -> bool {
        let mut refusals = self.refusals.iter().flat_map(|refusal| &refusal.reasons);
        self.placements.is_some() || refusals.any(|reason| reason.contains("new node "))
    }

    fn nodes_filled(&self, look: Look, line: &mut impl FnMut(String)) {
        if self.existing_nodes.is_empty() {
            return;
        }
        let any_under_way = self.existing_nodes.iter().any(|node| node.under_way);
        let title = if any_under_way { "Nodes that are there or under way" } else { "Nodes that are there" };
        line(format!("\n{}", look.strong(title)));
        for node in self.existing_nodes.iter().take(NODES_NAMED) {
            let under_way = if node.under_way { " (under way)" } else { "" };
            line(format!("  {}{under_way}: {}", node.name, contents(&node.contents)));
        }
        if let more @ 1.. = self.existing_nodes.len().saturating_sub(NODES_NAMED) {
            line(format!("  and {}", counted(more, "more nodes")));
        }
    }

    fn refused(&self, look: Look, line: &mut impl FnMut(String)) {
        if self.refusals.is_empty() {
            return;
        }
        line(format!("\n{}", look.strong("Without a place")));
        for refusal in self.refusals.iter().take(REFUSALS_NAMED) {
            let named: Vec<String> = refusal.pods.iter().take(PODS_NAMED).map(ToString::to_string).collect();
            let more = match refusal.count.saturating_sub(PODS_NAMED) {
                0 => String::new(),
                more => format!(" and {} more", grouped(more)),
            };
            line(format!("  {}: {}{more}", counted(refusal.count, "pods"), named.join(", ")));
            for reason in &refusal.reasons {
                line(format!("    {reason}"));
            }
        }
        let others = self.refusals.get(REFUSALS_NAMED..).unwrap_or_default();
        if !others.is_empty() {
            let pods = others.iter().map(|refusal| refusal.count).sum();
            line(format!("  and {} for other reasons, which --format json lists", counted(pods, "more pods")));
        }
    }
}

const INFALLIBLE: &str = "writing to a string cannot fail";

fn cells(group: &NodeGroup) -> Vec<String> {
    let (least, most) = group.pods_per_node;
    let together = UsdMicrosPerHour(group.price.0.saturating_mul(i64::try_from(group.count).unwrap_or(i64::MAX)));
    vec![
        grouped(group.count),
        group.instance_type.clone(),
        match group.zones.as_slice() {
            [one] => one.clone(),
            several => format!("any of {}", several.len()),
        },
        group.capacity_type.to_string(),
        group.price.to_string(),
        exact(together),
        format!("{:.0} %", group.cpu_percent),
        format!("{:.0} %", group.memory_percent),
        if least == most { least.to_string() } else { format!("{least}–{most}") },
        contents(&group.contents),
    ]
}

fn print(table: &Table, look: Look, line: &mut impl FnMut(String)) {
    let (header, rows) = table.lines(look.columns.map(|columns| columns.saturating_sub(2)));
    for text in &header {
        line(format!("  {}", look.faint(text)));
    }
    for text in &rows {
        line(format!("  {text}"));
    }
}

/// The numbers by which the text speaks of new nodes: `1, 3–5, 9, 11, …`
fn numbers(indices: &[usize]) -> String {
    let runs: Vec<&[usize]> = indices.chunk_by(|one, next| one + 1 == *next).collect();
    let run = |run: &&[usize]| match run {
        [first, .., last] => format!("{}–{}", first + 1, last + 1),
        _ => run.iter().map(|index| (index + 1).to_string()).collect(),
    };
    let mut named: Vec<String> = runs.iter().take(NUMBERS_NAMED).map(run).collect();
    if runs.len() > NUMBERS_NAMED {
        named.push("…".to_owned());
    }
    named.join(", ")
}

/// The name by which the text speaks of a node that is not there yet.
pub(super) fn new_name(index: usize) -> String {
    format!("new node {}", index + 1)
}

/// `120 web, 60 api, db, 7 of others`
pub(super) fn contents(contents: &[Content]) -> String {
    let said = |content: &Content| match content.pods {
        1 => content.owner.clone(),
        pods => format!("{} {}", grouped(pods), content.owner),
    };
    // One other is named as quickly as it is summed up.
    let named = if contents.len() == OWNERS_NAMED + 1 { contents.len() } else { OWNERS_NAMED };
    let mut parts: Vec<String> = contents.iter().take(named).map(said).collect();
    let others = contents.get(named..).unwrap_or_default();
    if !others.is_empty() {
        let pods: usize = others.iter().map(|content| content.pods).sum();
        parts.push(format!("{} of others", grouped(pods)));
    }
    parts.join(", ")
}

/// `1 pod`, `12,345 pods`
pub(crate) fn counted(count: usize, things: &str) -> String {
    let things = if count == 1 { things.strip_suffix('s').unwrap_or(things) } else { things };
    format!("{} {things}", grouped(count))
}

/// `12,345`
fn grouped(count: usize) -> String {
    with_commas(&count.to_string())
}

/// `1 node has`, `2 nodes have`
fn has(nodes: usize) -> String {
    format!("{} {}", counted(nodes, "nodes"), if nodes == 1 { "has" } else { "have" })
}

fn milliseconds(time: f64) -> String {
    match time {
        0.0..10.0 => format!("{time:.1} ms"),
        10.0..10_000.0 => format!("{time:.0} ms"),
        _ => format!("{:.1} s", time / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_each_other_are_one_run() {
        assert_eq!(numbers(&[0, 2, 3, 4, 8, 10]), "1, 3–5, 9, 11");
        assert_eq!(numbers(&[0, 2, 3, 4, 8, 10, 12]), "1, 3–5, 9, 11, …");
    }
}
