//! `plugin new`: a folder that is ready to be built, made from a template inside the binary.

use std::path::Path;

use aiproxy_host::plugin::templates::TEMPLATES;

use crate::support::binary::{Ran, aiproxy, run};

async fn new(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = aiproxy(&["plugin", "new"]);
    command.args(arguments).current_dir(folder);
    run(command).await
}

#[tokio::test]
async fn every_template_becomes_a_folder_with_the_plugins_name_and_the_interface() {
    let place = tempfile::tempdir().unwrap();
    for (language, files) in TEMPLATES {
        let name = format!("hello-{language}");
        let ran = new(place.path(), &[&name, "--lang", language]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for step in ["  build ", "  test ", "  deploy "] {
            assert!(ran.stdout.contains(step), "{step}: {}", ran.stdout);
        }
        let folder = place.path().join(&name);
        assert_eq!(std::fs::read_to_string(folder.join("wit/plugin.wit")).unwrap(), crate::support::dummies::WIT);
        assert!(std::fs::read_to_string(folder.join("README.md")).unwrap().contains(&name));
        for file in *files {
            let path = folder.join(file.path.replace("my-plugin", &name).replace("my_plugin", &name.replace('-', "_")));
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("my-plugin") && !text.contains("my_plugin"), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn nothing_is_written_over_and_nothing_is_made_of_a_bad_name() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("full")).unwrap();
    std::fs::write(place.path().join("full/mine"), "mine").unwrap();
    let Some((language, _)) = TEMPLATES.first() else { return };
    for (arguments, reason) in [
        (&["full", "--lang", language][..], "is not empty"),
        (&["x", "--dir", "full", "--lang", language], "is not empty"),
        (&["../x", "--lang", language], "no name for a plugin"),
        (&["My.Plugin", "--lang", language], "cannot name a package"),
        (&["x", "--lang", "cobol"], "there are: "),
    ] {
        let ran = new(place.path(), arguments).await;
        assert!(ran.code == Some(1) && ran.stderr.contains(reason), "{reason}: {ran:?}");
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}
