//! Resource names, and what a path asks for.

use super::refusal::Refusal;

/// What a path under `/v1/` names. Each name is the full one, `projects/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    KeyRings { location: String },
    KeyRing { ring: String },
    CryptoKeys { ring: String },
    CryptoKey { key: String },
    Versions { key: String },
    Version { key: String, number: u32 },
}

/// Reads a path such as `projects/p/locations/l/keyRings/r/cryptoKeys/k:encrypt` into what it names and the verb.
pub(super) fn parse(path: &str) -> Option<(Target, Option<&str>)> {
    let last = path.rfind('/')? + 1;
    let (name, verb) = match path[last..].split_once(':') {
        Some((id, verb)) => (&path[..last + id.len()], Some(verb)),
        None => (path, None),
    };
    let segments: Vec<&str> = name.split('/').collect();
    let ["projects", project, "locations", location, rest @ ..] = segments.as_slice() else {
        return None;
    };
    if project.is_empty() || location.is_empty() {
        return None;
    }
    let up_to = |count: usize| segments[..count].join("/");
    let target = match rest {
        ["keyRings"] => Target::KeyRings { location: up_to(4) },
        ["keyRings", _] => Target::KeyRing { ring: up_to(6) },
        ["keyRings", _, "cryptoKeys"] => Target::CryptoKeys { ring: up_to(6) },
        ["keyRings", _, "cryptoKeys", _] => Target::CryptoKey { key: up_to(8) },
        ["keyRings", _, "cryptoKeys", _, "cryptoKeyVersions"] => Target::Versions { key: up_to(8) },
        ["keyRings", _, "cryptoKeys", _, "cryptoKeyVersions", number] => Target::Version {
            key: up_to(8),
            number: number.parse().ok()?,
        },
        _ => return None,
    };
    Some((target, verb))
}

/// Checks the id of a new key ring or key: `[a-zA-Z0-9_-]{1,63}`.
pub(super) fn check_id(parameter: &str, id: &str) -> Result<(), Refusal> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    if (1..=63).contains(&id.len()) && id.chars().all(allowed) {
        Ok(())
    } else {
        Err(Refusal::invalid_argument(format!(
            "The request field '{parameter}' must match [a-zA-Z0-9_-]{{1,63}}."
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_resource_and_a_verb() {
        let key = "projects/example.com:p/locations/l/keyRings/r/cryptoKeys/k".to_owned();
        let version = format!("{key}/cryptoKeyVersions/7:destroy");
        assert_eq!(
            parse(&format!("{key}:encrypt")),
            Some((Target::CryptoKey { key: key.clone() }, Some("encrypt")))
        );
        assert_eq!(
            parse(&version),
            Some((Target::Version { key, number: 7 }, Some("destroy")))
        );
        for path in ["", "projects/p", "projects//locations/l/keyRings", "a/b/c"] {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
