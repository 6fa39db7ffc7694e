//! `process.env` as execve gets it.

use std::collections::HashMap;

/// Of several entries with one name the last counts, at the place of the first: as runc, which sets them one by one.
pub fn only_last(env: &mut Vec<String>) {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(env.len());
    let mut kept: Vec<String> = Vec::with_capacity(env.len());
    for entry in env.drain(..) {
        let name = entry.split('=').next().unwrap_or_default();
        match places.get(name) {
            Some(place) => kept[*place] = entry,
            None => {
                places.insert(name.to_owned(), kept.len());
                kept.push(entry);
            }
        }
    }
    *env = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_name() {
        let mut env = ["A=1", "B=2", "A=3=4", "AB=5", "B="].map(String::from).to_vec();
        only_last(&mut env);
        assert_eq!(env, ["A=3=4", "B=", "AB=5"]);
    }
}
