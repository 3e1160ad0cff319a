//! A random walk with transactions, against a model as plain as can be: a map from paths to values. A
//! transaction that could be committed must have done what its requests do one after the other at its
//! end; one that could not, nothing. After each step the store's counts are checked.

use super::*;

/// The nodes below `/t`, as they should be.
type Model = BTreeMap<String, String>;

fn path(rng: &mut Rng) -> String {
    let mut path = String::from("/t");
    for _ in 0..=rng.below(3) {
        path.push_str(["/a", "/b", "/c"][rng.below(3) as usize]);
    }
    path
}

fn put(model: &mut Model, path: &str, value: &str) {
    for (at, _) in path.match_indices('/').skip(1) {
        model.entry(path[..at].to_string()).or_default();
    }
    model.insert(path.to_string(), value.to_string());
}

fn take(model: &mut Model, path: &str) {
    let below = format!("{path}/");
    model.retain(|node, _| node != path && !node.starts_with(&below));
}

/// All nodes below `/t`, found by listing.
fn listing(xs: &mut Xs) -> Model {
    let mut model = Model::new();
    let mut next = Vec::from([String::from("/t")]);
    while let Some(path) = next.pop() {
        let value = xs.ask(5, Kind::Read, &format!("{path}\0")).unwrap();
        let names = xs.ask(5, Kind::Directory, &format!("{path}\0")).unwrap();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            next.push(format!("{path}/{}", text(name)));
        }
        model.insert(path, text(&value));
    }
    model
}

/// What changes: a path, and its new value or none.
type Act = (String, Option<String>);

fn apply(model: &mut Model, (path, value): &Act) {
    match value {
        Some(value) => put(model, path, value),
        None => take(model, path),
    }
}

/// How many transactions could be committed, and how many not.
fn walk(seed: u64) -> [u32; 2] {
    let mut xs = Xs::with(&[5]);
    let perms = Perms::new(Perm::none(DomId(5)), &[]);
    xs.local().create("/t", "", &perms).unwrap();
    let start = xs.service.store.stats().nodes;
    let mut model = Model::from([("/t".to_string(), String::new())]);
    let mut open: Option<(u32, Vec<Act>)> = None;
    let mut rng = Rng::new(seed);
    let mut ends = [0, 0];
    for _ in 0..120 {
        let inside = open.is_some() && rng.below(4) != 0;
        let tx = open.as_ref().filter(|_| inside).map_or(0, |(tx, _)| *tx);
        let path = path(&mut rng);
        let value = (rng.below(3) != 0).then(|| format!("{}", rng.below(1000)));
        match rng.below(6) {
            0..=3 => {
                let answer = match &value {
                    Some(value) => {
                        let payload = format!("{path}\0{value}");
                        xs.ask_in(5, tx, Kind::Write, payload.as_bytes())
                    }
                    None => xs.ask_in(5, tx, Kind::Rm, format!("{path}\0").as_bytes()),
                };
                match (&answer, &mut open) {
                    (Err(word), _) => assert_eq!((word.as_str(), &value), ("ENOENT", &None)),
                    (Ok(_), Some((_, acts))) if inside => acts.push((path, value)),
                    (Ok(_), _) => apply(&mut model, &(path, value)),
                }
            }
            4 if open.is_none() => open = Some((xs.begin(5), Vec::new())),
            4 => {}
            _ => {
                let Some((tx, acts)) = open.take() else { continue };
                let end = xs.end(5, tx, "T");
                ends[usize::from(end.is_err())] += 1;
                match end {
                    Ok(_) => acts.iter().for_each(|act| apply(&mut model, act)),
                    Err(word) => assert_eq!(word, "EAGAIN"),
                }
            }
        }
        assert_eq!(listing(&mut xs), model, "seed {seed}");
        assert_eq!(xs.service.store.stats().nodes, start + model.len() - 1, "seed {seed}");
        assert_eq!(xs.service.store.usage(DomId(5)).nodes as usize, model.len() + 1);
        assert_eq!(xs.service.store.check(), Ok(()), "seed {seed}");
    }
    ends
}

#[test]
fn any_order_of_requests_leaves_the_store_as_the_model_has_it() {
    let mut ends = [0, 0];
    for seed in 0..60 {
        let [committed, refused] = walk(seed);
        ends = [ends[0] + committed, ends[1] + refused];
    }
    assert!(ends.iter().all(|count| *count > 20), "both are met: {ends:?}");
}
