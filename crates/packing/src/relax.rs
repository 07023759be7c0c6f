//! The linear relaxation of filling one node: few rows, many bounded columns with few entries.
//!
//! `max value · x` subject to `rows · x <= 1` and `0 <= x <= bound`: a revised simplex with upper bounds whose basis
//! inverse is as small as the number of rows. It starts from what the prices of the last solve would take whole, for
//! nodes of a kind are filled much alike. Its dual prices are what the exact bound in [`crate::knapsack`] is made of;
//! whatever rounding happens here can make that bound weaker, never wrong.

/// Below this a reduced gain is noise.
const NOISE: f64 = 1e-9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Lower,
    Upper,
    Basic,
}

/// Buffers and the last solution; one for many solves.
#[derive(Debug, Default)]
pub(crate) struct Relaxation {
    rows: usize,
    pub(crate) value: Vec<f64>,
    pub(crate) bound: Vec<f64>,
    /// Where the entries of each column end.
    ends: Vec<usize>,
    /// What one unit takes of a row, of which there is 1.
    entries: Vec<(usize, f64)>,
    at: Vec<At>,
    basis: Vec<usize>,
    filled: Vec<f64>,
    inverse: Vec<f64>,
    /// Dual price of each row.
    pub(crate) dual: Vec<f64>,
    /// Value of each column less the price of what it takes.
    reduced: Vec<f64>,
    pub(crate) solution: Vec<f64>,
    step: Vec<f64>,
    order: Vec<(f64, usize)>,
}

impl Relaxation {
    pub(crate) fn clear(&mut self, rows: usize) {
        self.rows = rows;
        self.value.clear();
        self.bound.clear();
        self.ends.clear();
        self.entries.clear();
    }

    /// A column by its entries, each in another row.
    pub(crate) fn column(&mut self, value: f64, bound: f64, takes: impl Iterator<Item = (usize, f64)>) {
        self.value.push(value);
        self.bound.push(bound);
        self.entries.extend(takes);
        self.ends.push(self.entries.len());
    }

    /// What one unit of a column takes.
    pub(crate) fn takes(&self, column: usize) -> &[(usize, f64)] {
        let start = if column == 0 { 0 } else { self.ends[column - 1] };
        &self.entries[start..self.ends[column]]
    }

    /// Solve; returns the number of elementary steps. `guess`: prices of the rows that are probably not far off, or none.
    pub(crate) fn solve(&mut self, guess: &[f64]) -> usize {
        let (rows, columns) = (self.rows, self.value.len());
        self.at.clear();
        self.at.resize(columns + rows, At::Lower);
        self.basis.clear();
        self.basis.extend(columns..columns + rows);
        for slack in columns..columns + rows {
            self.at[slack] = At::Basic;
        }
        self.filled.clear();
        self.filled.resize(rows, 1.0);
        self.inverse.clear();
        self.inverse.resize(rows * rows, 0.0);
        for row in 0..rows {
            self.inverse[row * rows + row] = 1.0;
        }
        self.dual.clear();
        self.dual.resize(rows, 0.0);
        self.step.clear();
        self.step.resize(rows, 0.0);
        self.reduced.clone_from(&self.value);
        let mut steps = columns + rows * rows;
        if !guess.is_empty() {
            steps += self.start(guess);
        }
        let scale = self.value.iter().fold(0.0_f64, |most, value| most.max(*value));
        let noise = NOISE * scale;
        for _ in 0..4 * (columns + rows) + 16 {
            steps += columns + rows * (rows + 2);
            let Some((entering, gain)) = self.entering(noise) else { break };
            if self.move_in(entering, gain < 0.0) {
                self.reduce();
                steps += self.entries.len();
            }
        }
        self.solution.clear();
        self.solution.resize(columns, 0.0);
        for column in 0..columns {
            if self.at[column] == At::Upper {
                self.solution[column] = self.bound[column];
            }
        }
        for row in 0..rows {
            if self.basis[row] < columns {
                let column = self.basis[row];
                self.solution[column] = self.filled[row].clamp(0.0, self.bound[column]);
            }
        }
        steps
    }

    /// Take whole columns in the order of value for what they take at these prices, as long as they fit.
    fn start(&mut self, guess: &[f64]) -> usize {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        for column in 0..self.value.len() {
            let price: f64 = self.takes(column).iter().map(|(row, amount)| amount * guess[*row]).sum();
            if self.value[column] > 0.0 {
                order.push((self.value[column] / price.max(1e-300), column));
            }
        }
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(_, column) in &order {
            let start = if column == 0 { 0 } else { self.ends[column - 1] };
            let takes = &self.entries[start..self.ends[column]];
            let bound = self.bound[column];
            if takes.iter().all(|(row, amount)| amount * bound <= self.filled[*row]) {
                for (row, amount) in takes {
                    self.filled[*row] -= amount * bound;
                }
                self.at[column] = At::Upper;
            }
        }
        self.order = order;
        self.entries.len() * 2 + self.value.len() * 4
    }

    fn reduce(&mut self) {
        let mut start = 0;
        for (column, &end) in self.ends.iter().enumerate() {
            let price: f64 = self.entries[start..end].iter().map(|(row, amount)| amount * self.dual[*row]).sum();
            self.reduced[column] = self.value[column] - price;
            start = end;
        }
    }

    /// The column whose move from its bound gains most, by a guess of how far it can go.
    fn entering(&self, noise: f64) -> Option<(usize, f64)> {
        let (rows, columns) = (self.rows, self.value.len());
        let mut best = None;
        let mut most = 0.0;
        for column in 0..columns {
            let gain = match self.at[column] {
                At::Basic => continue,
                At::Lower => self.reduced[column],
                At::Upper => -self.reduced[column],
            };
            if gain > noise {
                let weight = gain * self.bound[column];
                if weight > most {
                    most = weight;
                    best = Some((column, if self.at[column] == At::Lower { gain } else { -gain }));
                }
            }
        }
        for row in 0..rows {
            if self.at[columns + row] == At::Lower && -self.dual[row] > noise && -self.dual[row] > most {
                most = -self.dual[row];
                best = Some((columns + row, -self.dual[row]));
            }
        }
        best
    }

    /// Move a column from its bound as far as it goes; says whether the basis, and so the prices, changed.
    fn move_in(&mut self, entering: usize, down: bool) -> bool {
        let (rows, columns) = (self.rows, self.value.len());
        if entering < columns {
            self.step.fill(0.0);
            let start = if entering == 0 { 0 } else { self.ends[entering - 1] };
            for &(at, amount) in &self.entries[start..self.ends[entering]] {
                for row in 0..rows {
                    self.step[row] += self.inverse[row * rows + at] * amount;
                }
            }
        } else {
            for row in 0..rows {
                self.step[row] = self.inverse[row * rows + entering - columns];
            }
        }
        let sign = if down { -1.0 } else { 1.0 };
        let upper = |column: usize| if column < columns { self.bound[column] } else { f64::INFINITY };
        let mut far = upper(entering);
        let mut leaving = None;
        for row in 0..rows {
            let speed = sign * self.step[row];
            let room = if speed > 1e-12 {
                self.filled[row].max(0.0) / speed
            } else if speed < -1e-12 {
                (upper(self.basis[row]) - self.filled[row]).max(0.0) / -speed
            } else {
                continue;
            };
            if room < far {
                far = room;
                leaving = Some((row, if speed > 0.0 { At::Lower } else { At::Upper }));
            }
        }
        for row in 0..rows {
            self.filled[row] -= sign * far * self.step[row];
        }
        let Some((row, rests)) = leaving else {
            self.at[entering] = if down { At::Lower } else { At::Upper };
            return false;
        };
        let gain = if entering < columns { self.reduced[entering] } else { -self.dual[entering - columns] };
        self.at[self.basis[row]] = rests;
        self.at[entering] = At::Basic;
        self.filled[row] = if down { upper(entering) - far } else { far };
        self.basis[row] = entering;
        let pivot = self.step[row];
        for column in 0..rows {
            self.inverse[row * rows + column] /= pivot;
        }
        for other in 0..rows {
            let factor = self.step[other];
            if other != row && factor != 0.0 {
                for column in 0..rows {
                    self.inverse[other * rows + column] -= factor * self.inverse[row * rows + column];
                }
            }
        }
        for column in 0..rows {
            self.dual[column] += gain * self.inverse[row * rows + column];
        }
        true
    }
}
