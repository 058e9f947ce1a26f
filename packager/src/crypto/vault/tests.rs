//! Vault tests: names, the first file, and what a rotation leaves open.

use super::*;

#[test]
fn pictures_have_the_class_of_their_pixels() {
    let check = |width, height, expected| assert_eq!(TrackClass::of_picture(width, height), expected);
    check(0, 0, TrackClass::Sd);
    check(768, 576, TrackClass::Sd);
    check(576, 768, TrackClass::Sd);
    check(769, 576, TrackClass::Hd);
    check(1920, 1080, TrackClass::Hd);
    check(1920, 1088, TrackClass::Uhd1);
    check(4096, 2160, TrackClass::Uhd1);
    check(4096, 2161, TrackClass::Uhd2);
    check(u32::MAX, u32::MAX, TrackClass::Uhd2);
    for class in TrackClass::ALL {
        assert_eq!(TrackClass::from_name(class.name()), Some(class));
        assert_eq!(serde_json::to_value(class).unwrap(), class.name());
    }
    assert_eq!(TrackClass::from_name("hd"), None);
}

#[test]
fn names_are_fit_for_files() {
    let check = |name: &str, expected| assert_eq!(is_name(name), expected, "{name}");
    check("film-1.a_B", true);
    check(&"a".repeat(128), true);
    check(&"a".repeat(129), false);
    for wrong in ["", ".", "..", ".a", "a/b", "a|b", "a b", "é", "a\0"] {
        check(wrong, false);
    }
    for scheme in ["cbcs", "cenc", "cens", "cbc1", "aes128", "sampleaes"] {
        assert!(is_scheme(scheme), "{scheme}");
    }
    assert!(!is_scheme("cmaf") && !is_scheme(""));
}

#[test]
fn a_kek_is_64_digits() {
    let kek = parse_kek(&format!(" {}\n", "0aF".repeat(21) + "0")).unwrap();
    assert_eq!(kek_text(&kek).as_str(), format!("{}\n", "0af".repeat(21) + "0"));
    // SHA-256 of the label and 32 bytes of 0x0b, by coreutils.
    assert_eq!(kek_id(&Secret32::new([0x0b; 32])), "3c1409d6a62fa58d");
    for wrong in [
        "",
        "00",
        &"0".repeat(63),
        &"0".repeat(65),
        &"g".repeat(64),
        &"+0".repeat(32),
    ] {
        assert_eq!(parse_kek(wrong).err(), Some(VaultError::Kek), "{wrong}");
    }
}

#[test]
fn a_content_key_is_32_digits() {
    let key = parse_content_key(&"0aF1".repeat(8)).unwrap();
    assert_eq!(key.expose().first_chunk(), Some(&[0x0a, 0xf1, 0x0a]));
    for wrong in ["", &"0".repeat(31), &"0".repeat(33), &"g".repeat(32), &" 0".repeat(16)] {
        assert!(parse_content_key(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_rotation_wraps_tenants_anew_and_then_forgets() {
    let (old, new) = (Secret32::new([1; 32]), Secret32::new([2; 32]));
    let tenant_key = Secret32::new([3; 32]);
    let mut head = VaultHead::new(&kek_id(&old)).unwrap();
    head.wrap_tenant(&old, "acme", &tenant_key).unwrap();
    let wrong = head.wrap_tenant(&new, "acme", &tenant_key).unwrap_err();
    assert!(matches!(wrong, VaultError::OtherKek { .. }), "{wrong}");
    assert_eq!(head, VaultHead::parse(head.to_json().as_bytes()).unwrap());
    assert_eq!(head.tenant_key(&old, "acme").unwrap().expose(), tenant_key.expose());
    assert!(matches!(
        head.tenant_key(&old, "other").err(),
        Some(VaultError::NoTenant { .. })
    ));

    let rewrapped = BTreeMap::from([("acme".to_owned(), wrap_tenant_key(&new, &tenant_key).unwrap().to_vec())]);
    let missing = head.begin_rotation(&kek_id(&new), BTreeMap::new()).unwrap_err();
    assert!(matches!(missing, VaultError::NoTenant { .. }), "{missing}");
    head.begin_rotation(&kek_id(&new), rewrapped).unwrap();
    assert_eq!(head, VaultHead::parse(head.to_json().as_bytes()).unwrap());
    for kek in [&old, &new] {
        assert_eq!(head.tenant_key(kek, "acme").unwrap().expose(), tenant_key.expose());
    }
    assert!(head.finish_rotation() && !head.finish_rotation());
    assert!(head.tenant_key(&new, "acme").is_ok());
    assert!(matches!(
        head.tenant_key(&old, "acme").err(),
        Some(VaultError::OtherKek { .. })
    ));
}

#[test]
fn a_head_that_is_not_one_is_refused() {
    let check = |json: &str, expected: VaultError| {
        assert_eq!(VaultHead::parse(json.as_bytes()).err(), Some(expected), "{json}");
    };
    let json = |reason, column| VaultError::Json {
        what: "vault.json",
        line: 1,
        column,
        reason,
    };
    check("", json("cut short", 0));
    check("]", json("not JSON", 1));
    let data = "a member that is missing, not known or of another kind";
    check("{}", json(data, 2));
    check(r#"{"secret":"3"}"#, json(data, 9));
    let good = r#"{"format":1,"kek_id":"0123456789abcdef","tenants":{"acme":"00ff"}}"#;
    assert!(VaultHead::parse(good.as_bytes()).is_ok());
    for end in 0..good.len() {
        assert!(VaultHead::parse(good.get(..end).unwrap().as_bytes()).is_err(), "{end}");
    }
    check(
        &good.replace(":1,", ":2,"),
        VaultError::Format {
            what: "vault.json",
            format: 2,
        },
    );
    check(
        &good.replace("abcdef", "ABCDEF"),
        VaultError::Name {
            what: "id of a key encryption key",
        },
    );
    check(&good.replace("acme", "a/b"), VaultError::Name { what: "tenant" });
    for (digits, size) in [("", 0), ("0", 0), ("zz", 1), (&"00".repeat(1_025), 1_025)] {
        let source = WrapError::Size { size };
        let tenant = "acme".to_owned();
        check(&good.replace("00ff", digits), VaultError::Tenant { tenant, source });
    }
    let size = limits::VAULT_HEAD_SIZE_BYTES_MAX + 1;
    check(
        &" ".repeat(size),
        VaultError::Size {
            what: "vault.json",
            size,
            size_max: size - 1,
        },
    );
    let tenants: Vec<String> = (0..=limits::VAULT_TENANT_COUNT_MAX)
        .map(|n| format!("\"t{n}\":\"00\""))
        .collect();
    check(
        &good.replace(r#""acme":"00ff""#, &tenants.join(",")),
        VaultError::Count {
            what: "tenants",
            count_max: limits::VAULT_TENANT_COUNT_MAX,
        },
    );
}
