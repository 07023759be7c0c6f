//! The linear relaxation of filling one node: few rows, many bounded columns.
//!
//! `max value · x` subject to `rows · x <= 1` and `0 <= x <= bound`: a revised simplex with upper bounds whose basis
//! inverse is as small as the number of resources. Its dual prices are what the exact bound in [`crate::knapsack`] is made
//! of; whatever rounding happens here can make that bound weaker, never wrong.

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
    /// Column after column: what one unit takes of each row, of which there is 1.
    pub(crate) takes: Vec<f64>,
    at: Vec<At>,
    basis: Vec<usize>,
    filled: Vec<f64>,
    inverse: Vec<f64>,
    /// Dual price of each row.
    pub(crate) dual: Vec<f64>,
    pub(crate) solution: Vec<f64>,
    step: Vec<f64>,
}

impl Relaxation {
    pub(crate) fn clear(&mut self, rows: usize) {
        self.rows = rows;
        self.value.clear();
        self.bound.clear();
        self.takes.clear();
    }

    pub(crate) fn column(&mut self, value: f64, bound: f64, takes: impl Iterator<Item = f64>) {
        self.value.push(value);
        self.bound.push(bound);
        self.takes.extend(takes);
    }

    fn reduced(&self, column: usize) -> f64 {
        let rows = self.rows;
        let takes = &self.takes[column * rows..(column + 1) * rows];
        self.value[column] - takes.iter().zip(&self.dual).map(|(a, u)| a * u).sum::<f64>()
    }

    /// Solve; returns the number of elementary steps.
    pub(crate) fn solve(&mut self) -> usize {
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
        let scale = self.value.iter().fold(0.0_f64, |most, value| most.max(*value));
        let noise = NOISE * scale;
        let mut steps = 0;
        for _ in 0..4 * (columns + rows) + 16 {
            steps += (columns + rows) * (rows + 2);
            let Some((entering, gain)) = self.entering(noise) else { break };
            self.move_in(entering, gain < 0.0);
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

    /// The column whose move from its bound gains most, by a guess of how far it can go.
    fn entering(&self, noise: f64) -> Option<(usize, f64)> {
        let (rows, columns) = (self.rows, self.value.len());
        let mut best = None;
        let mut most = 0.0;
        for column in 0..columns {
            let gain = match self.at[column] {
                At::Basic => continue,
                At::Lower => self.reduced(column),
                At::Upper => -self.reduced(column),
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

    fn move_in(&mut self, entering: usize, down: bool) {
        let (rows, columns) = (self.rows, self.value.len());
        for row in 0..rows {
            let line = &self.inverse[row * rows..(row + 1) * rows];
            self.step[row] = if entering < columns {
                let takes = &self.takes[entering * rows..(entering + 1) * rows];
                line.iter().zip(takes).map(|(b, a)| b * a).sum()
            } else {
                line[entering - columns]
            };
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
            return;
        };
        let gain = if entering < columns { self.reduced(entering) } else { -self.dual[entering - columns] };
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
    }
}
