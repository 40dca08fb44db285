//! What EC2 accepts of the parts of a root volume together. Pure.

use crate::cloud::RootVolume;

/// Parts that do not go together: the part's name, and a text that goes on after it.
pub(crate) fn contradictions(volume: &RootVolume) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    match (volume.kind.as_str(), volume.iops) {
        ("io1" | "io2", None) => {
            found.push(("iops", format!("is missing, expected it with the type `{}`", volume.kind)));
        }
        ("gp2", Some(_)) => found.push(("iops", "is set, expected none with the type `gp2`".to_owned())),
        ("gp3", Some(iops)) if !(3000..=80_000).contains(&iops) => {
            found.push(("iops", format!("is `{iops}`, expected 3000 to 80000 with the type `gp3`")));
        }
        _ => {}
    }
    if let Some(throughput) = volume.throughput {
        // EC2: 0.25 MiB/s for each provisioned IOPS.
        let most = volume.iops.unwrap_or(3000) / 4;
        if volume.kind != "gp3" {
            found.push(("throughput", "is set, expected it with the type `gp3` only".to_owned()));
        } else if throughput > most {
            let text = format!("is `{throughput}`, expected at most {most}, a quarter of the IOPS");
            found.push(("throughput", text));
        }
    }
    if volume.kms_key_id.is_some() && !volume.encrypted {
        let text = "is set, expected none while instances.rootVolume.encrypted is `false`";
        found.push(("kmsKeyId", text.to_owned()));
    }
    found
}
