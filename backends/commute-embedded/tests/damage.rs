//! Damage: it is found and named, and never delivered.

mod support;

use commute_core::Code;
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};
use support::{Script, expected, seen, segments, small};

/// The disk after the whole script, killed or closed.
async fn finished(options: Options, close: bool) -> Memory {
    let disk = Memory::new();
    let mut script = Script::begin(&disk, options).await.unwrap();
    for _ in 0..Script::STEPS {
        script.step().await.unwrap();
    }
    match close {
        true => {
            script.close().await.unwrap();
            disk.after_kill()
        }
        false => disk.after_power_loss(|| false),
    }
}

fn flipped(disk: &Memory, name: &str, byte: usize, bit: u8) -> Memory {
    let copy = disk.after_kill();
    let mut bytes = copy.bytes(name).unwrap();
    bytes[byte] ^= 1 << bit;
    copy.put(name, bytes);
    copy
}

#[tokio::test]
async fn a_flipped_bit_is_damage_or_in_the_last_group() {
    let expected = expected().await;
    let disk = finished(Options { segment_bytes: 1 << 20, ..small() }, false).await;
    let name = &segments(&disk)[0];
    let length = disk.bytes(name).unwrap().len();
    let mut cut = 0;
    for byte in 0..length {
        match seen(&flipped(&disk, name, byte, (byte % 8) as u8)).await {
            Err(error) => {
                assert!(matches!(error.code(), Code::Damaged | Code::UnknownFormat), "byte {byte}: {error}");
                assert!(error.detail().contains(name.as_str()), "{error} names the file");
            }
            Ok(found) => {
                cut += 1;
                assert_eq!(found, expected[Script::STEPS - 1], "byte {byte} is in the last group, which is not there");
            }
        }
    }
    assert!(cut > 0 && cut < 200, "{cut} bytes are in the last group");
}

#[tokio::test]
async fn a_flipped_bit_behind_a_snapshot_is_never_delivered() {
    let expected = expected().await;
    let disk = finished(small(), true).await;
    for name in disk.list() {
        for byte in (0..disk.bytes(&name).unwrap().len()).step_by(3) {
            match seen(&flipped(&disk, &name, byte, (byte % 8) as u8)).await {
                Err(error) => assert!(
                    matches!(error.code(), Code::Damaged | Code::UnknownFormat),
                    "byte {byte} of {name}: {error}"
                ),
                // Nobody needs this byte any more.
                Ok(found) => assert_eq!(found, expected[Script::STEPS], "byte {byte} of {name}"),
            }
        }
    }
}

#[tokio::test]
async fn a_segment_that_is_missing_is_damage() {
    for close in [false, true] {
        let disk = finished(small(), close).await;
        let names = segments(&disk);
        assert!(names.len() > 3, "{names:?}");
        // The last one may be a spare.
        for name in &names[..names.len() - 2] {
            let copy = disk.after_kill();
            copy.lose(name);
            let error = seen(&copy).await.unwrap_err();
            assert_eq!(error.code(), Code::Damaged, "{name}: {error}");
            assert!(error.detail().contains(name.as_str()), "{error} names {name}");
        }
    }
}

#[tokio::test]
async fn a_damaged_log_is_left_as_it_is() {
    let disk = finished(Options { segment_bytes: 1 << 20, ..small() }, false).await;
    let damaged = flipped(&disk, &segments(&disk)[0], 100, 1);
    let before: Vec<_> = damaged.list().iter().map(|name| damaged.bytes(name)).collect();
    assert!(Embedded::in_memory(&damaged, small()).is_err());
    let after: Vec<_> = damaged.list().iter().map(|name| damaged.bytes(name)).collect();
    assert!(before == after, "nothing was changed");
}

#[tokio::test]
async fn a_log_of_a_later_format_is_refused() {
    for close in [false, true] {
        let disk = finished(small(), close).await;
        let name = if close { "snapshot".to_owned() } else { segments(&disk)[0].clone() };
        let mut bytes = disk.bytes(&name).unwrap();
        bytes[8] = 3;
        disk.put(&name, bytes);
        assert_eq!(seen(&disk).await.unwrap_err().code(), Code::UnknownFormat);
    }
}
