//! Parses scripts of every dialect, and random text.

use super::*;
use proptest::prelude::*;

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn place(text: &str) -> NamedPath {
    Folder::default().place(text).unwrap()
}

fn train(config: &str, run_name: Option<&str>) -> Run {
    let run_name = run_name.map(str::to_owned);
    let (folder, settings, files) = (Folder::default(), Vec::new(), Vec::new());
    let (maps, videos) = (Vec::new(), Vec::new());
    Run::Train(Train { config: place(config), folder, run_name, settings, files, maps, videos })
}

fn runs(file: ScriptFile, text: &str) -> Vec<Run> {
    let without_own_settings = |mut run| {
        if let Run::Train(train) = &mut run {
            train.config = place(train.config.path.as_str());
            train.settings.retain(|setting| {
                setting.key != "trainer_config.ckpt_dir" && !setting.key.contains(".zmq.")
            });
        }
        run
    };
    parse(file, text).unwrap().runs.into_iter().map(without_own_settings).collect()
}

fn refusal(file: ScriptFile, text: &str) -> String {
    parse(file, text).unwrap_err().to_string()
}

#[test]
fn every_dialect_of_training() {
    macro_rules! script {
        ($name:literal) => {
            include_str!(concat!("../../../../tests/fixtures/scripts/train-script.", $name, ".sh"))
        };
    }
    let cases = [
        (script!("1.5.0"), ["240101_000000", "240101_000000"]),
        (script!("1.5.2"), ["centroid_240101_000000", "centered_instance_240101_000000"]),
        (script!("1.6.0"), ["240101_000000.centroid.n=12", "240101_000000.centered_instance.n=12"]),
        (script!("1.6.6"), ["240101_000000.centroid.n=12", "240101_000000.centered_instance.n=12"]),
        (script!("sleap-rtc"), ["centroid", "centered_instance"]),
    ];
    for (text, [first, second]) in cases {
        let expected =
            [train("centroid.yaml", Some(first)), train("centered_instance.yaml", Some(second))];
        assert_eq!(runs(ScriptFile::Train, text), expected);
        assert_eq!(parse(ScriptFile::Train, text).unwrap().remarks, Vec::<String>::new());
    }
    let legacy = |config| {
        let (config, labels) = (place(config), place("two.pkg.slp"));
        Run::TrainLegacy(TrainLegacy { config, labels, run_name: None, files: Vec::new() })
    };
    assert_eq!(
        runs(ScriptFile::Train, script!("1.4.1")),
        [legacy("centroid.json"), legacy("centered_instance.json")]
    );
}

#[test]
fn sleap_1_4_1_wrote_names_without_quotes() {
    for name in ["my mice.v001.pkg.slp", "ada's.pkg.slp", "mice (2).pkg.slp", "a & b.slp"] {
        let text = format!("#!/bin/bash\nsleap-train c.json {name}\nsleap-train d.json x.slp\n");
        let labels: Vec<String> = runs(ScriptFile::Train, &text)
            .into_iter()
            .map(|run| match run {
                Run::TrainLegacy(run) => run.labels.path.into(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(labels, [name, "x.slp"]);
    }
    let text = "sleap-train c.json x.slp && sleap-train d.json y.slp";
    assert_eq!(runs(ScriptFile::Train, text).len(), 2);
}

#[test]
fn other_ways_to_write_a_training() {
    let cases = [
        ("sleap-nn train a.yaml", "a.yaml"),
        ("sleap-nn train --config a.yaml", "a.yaml"),
        ("sleap-nn train --config-name=a --config-dir=./conf/", "conf/a.yaml"),
        ("/opt/bin/sleap-nn train -c a.yml -d .", "a.yml"),
        ("~/env/bin/sleap-nn train -c a.yml -d .\r\n", "a.yml"),
        ("C:\\env\\Scripts\\sleap-nn.exe train -c a.yml", "a.yml"),
        ("sleap-train --config-name a.yaml --config-dir .", "a.yaml"),
        ("sleap-nn train \\\n  --config-name a.yaml \\\n  --config-dir .\n", "a.yaml"),
        ("sleap-nn train a.yaml 'trainer_config.run_name=null'", "a.yaml"),
        ("sleap-nn train 'my config.yaml'", "my config.yaml"),
        ("sleap-nn train --config-name a --config-dir /home/x/job", "a.yaml"),
        ("CUDA_VISIBLE_DEVICES=0 HYDRA_FULL_ERROR=1 sleap-nn train a.yaml", "a.yaml"),
        ("env -u SLURM_NTASKS \\\n  A=interactive \\\n  sleap-nn train a.yaml", "a.yaml"),
        ("/usr/bin/time -v sleap-nn train a.yaml", "a.yaml"),
        ("srun --gpus 1 -J sleap sleap-nn train a.yaml", "a.yaml"),
        ("uv run --with sleap-nn sleap-nn train a.yaml", "a.yaml"),
        ("uvx --from 'sleap-nn[torch]' sleap-nn train a.yaml", "a.yaml"),
        ("uvx sleap-nn[torch]==0.3.5 train a.yaml", "a.yaml"),
        ("conda run -n sleap sleap train a.yaml", "a.yaml"),
        ("apptainer exec --nv s.sif sleap-nn train a.yaml", "a.yaml"),
        ("nohup sleap-nn train a.yaml > log.txt 2>&1 &", "a.yaml"),
        ("sleap-nn train a.yaml 2>&1 | tee log.txt", "a.yaml"),
        ("python -u -m sleap_nn.cli train a.yaml", "a.yaml"),
        ("~/env/bin/python3.11 -m sleap_nn.train --config-name a.yaml", "a.yaml"),
        (
            "set -e; module load cuda && source ~/env/bin/activate && sleap-nn train a.yaml",
            "a.yaml",
        ),
        ("CONFIG=a.yaml\nsleap-nn train -c \"$CONFIG\"", "a.yaml"),
        ("export OPTIONS='-c a.yaml -d .'\nsleap-nn train $OPTIONS \"$@\"", "a.yaml"),
        ("\"$CONDA_PREFIX/bin/sleap-nn\" train a.yaml", "a.yaml"),
        ("cd \"$(dirname \"$0\")\"\nsleap-nn train a.yaml # the first", "a.yaml"),
        ("cd sub && sleap-nn train a.yaml", "sub/a.yaml"),
        ("cd sub\ncd ..\nsleap-nn train a.yaml\nexit 0\nrm -rf /", "a.yaml"),
        ("sleap-nn --version; sleap-nn train a.yaml", "a.yaml"),
        ("time -p sleap-nn train a.yaml", "a.yaml"),
        ("pushd sub\nsleap-nn train a.yaml\npopd", "sub/a.yaml"),
        ("cd sub\ncd -\nsleap-nn train a.yaml", "a.yaml"),
        ("pushd sub; popd; sleap-nn train a.yaml", "a.yaml"),
        ("eval \"$(conda shell.bash hook)\"\nconda activate s\nsleap-nn train a.yaml", "a.yaml"),
        ("exec > log.txt 2>&1\nsleap-nn train a.yaml", "a.yaml"),
        ("sleap-nn train -c a.yaml -d \"$PWD\"", "a.yaml"),
        ("cd sub\nsleap-nn train -c a.yaml -d $(pwd)/deep", "sub/deep/a.yaml"),
        ("D=\"$(cd \"$(dirname \"$0\")\" && pwd)\"\nsleap-nn train -c a.yaml -d \"$D\"", "a.yaml"),
        ("sleap-nn train\u{A0}a.yaml", "a.yaml"),
        ("\u{FEFF}sleap-nn\u{2003}train a.yaml\u{200B}", "a.yaml"),
        ("sudo -E sleap-nn train a.yaml", "a.yaml"),
        ("A=sub; A+=/a; export A+=.yaml; sleap-nn train $A", "sub/a.yaml"),
        ("sleap-nn train $\"a.yaml\" -- trainer_config.seed=3", "a.yaml"),
        ("sleap-nn train --config a.yaml --config-dir elsewhere", "a.yaml"),
        ("sleap-nn info models/a\nsleap-nn train a.yaml", "a.yaml"),
        ("cd \"$(dirname \"$0\")/sub\"\nsleap-nn train a.yaml", "sub/a.yaml"),
        ("cd $SLURM_SUBMIT_DIR/sub && sleap-nn train a.yaml", "sub/a.yaml"),
        ("cd sub; cd $PWD/deep; sleap-nn train a.yaml", "sub/deep/a.yaml"),
        ("cd a; D=\"$(dirname \"$0\")\"; cd $D; sleap-nn train b.yaml", "b.yaml"),
        ("sleap-nn train a.yaml 2>&1 | tee -a \"a log.txt\" 2>&1", "a.yaml"),
        ("sleap-nn train a.yaml |& tee log.txt; echo ended", "a.yaml"),
        ("sleap-nn train a.yaml || exit 1", "a.yaml"),
        ("sleap-nn train a.yaml ||\texit $?\nexit", "a.yaml"),
        ("CONFIG=${1:-a.yaml}\nsleap-nn train -c ${CONFIG}", "a.yaml"),
        ("A=a.yaml; sleap-nn train \"${A:-b.yaml}\"", "a.yaml"),
        ("declare -r A=a.yaml\nreadonly B=.\nsleap-nn train -c $A -d $B", "a.yaml"),
        ("set -euo pipefail; set +x; set -o pipefail\nsleap-nn train a.yaml", "a.yaml"),
        ("exec sleap-nn train a.yaml\nsleap-nn train b.yaml", "a.yaml"),
        (
            ". /etc/profile; source /opt/conda/etc/profile.d/conda.sh; sleap-nn train a.yaml",
            "a.yaml",
        ),
        ("source .venv/Scripts/activate\nsource activate sleap\nsleap-nn train a.yaml", "a.yaml"),
        ("command -v sleap-nn && python --version; sleap-nn train a.yaml", "a.yaml"),
        ("py -3.11 -m sleap_nn.cli train a.yaml", "a.yaml"),
        ("docker run --gpus all -v \"$PWD\":/w -w /w x/y:1 sleap-nn train a.yaml", "a.yaml"),
        ("poetry run sleap-nn train a.yaml", "a.yaml"),
        ("pixi run -e gpu sleap-nn train a.yaml", "a.yaml"),
        ("micromamba run -n sleap-nn sleap-nn train a.yaml", "a.yaml"),
        ("singularity exec --nv -B /data:/data s.sif sleap-nn train a.yaml", "a.yaml"),
        ("uv tool run --from sleap-nn sleap-nn train a.yaml", "a.yaml"),
        ("env -C sub A=1 sleap-nn train a.yaml", "sub/a.yaml"),
        ("cd sub; uv run --directory=deep sleap-nn train a.yaml", "sub/deep/a.yaml"),
        ("srun -D sub conda run --cwd deep sleap-nn train a.yaml", "sub/deep/a.yaml"),
        ("srun -C a100 sleap-nn train a.yaml", "a.yaml"),
        ("cd sub; cd -; cd -; sleap-nn train a.yaml", "sub/a.yaml"),
        ("pushd sub; cd deep; popd; sleap-nn train a.yaml", "a.yaml"),
        ("cd -P sub && sleap-nn train a.yaml", "sub/a.yaml"),
    ];
    for (text, config) in cases {
        let runs = runs(ScriptFile::Train, text);
        let [Run::Train(run)] = &runs[..] else { panic!("{text}: {runs:?}") };
        assert_eq!(run.config.path, path(config), "{text}");
    }
}

#[test]
fn every_command_in_a_line_is_a_run() {
    for joint in ["&&", ";", "&", "\n", "&& \\\n"] {
        let text = format!("sleap-nn train a.yaml {joint} sleap-nn train b.yaml");
        let expected = [train("a.yaml", None), train("b.yaml", None)];
        assert_eq!(runs(ScriptFile::Train, &text), expected, "{joint}");
    }
}

#[test]
fn ignored_commands_are_reported() {
    let text = "echo hello\nsrun --gpus 1 sleap-nn train a.yaml > log.txt\n";
    assert_eq!(
        parse(ScriptFile::Train, text).unwrap().remarks,
        [
            "train-script.sh, line 1: `echo hello` is ignored",
            "train-script.sh, line 2: `srun --gpus 1` is ignored",
            "train-script.sh, line 2: the output goes to the job's log, not to log.txt",
        ]
    );
    let text = "sleap-nn train a.yaml 2>&1 | tee log.txt";
    let remarks = parse(ScriptFile::Train, text).unwrap().remarks;
    assert_eq!(
        remarks,
        ["train-script.sh, line 1: the output goes to the job's log, not to log.txt"]
    );
    let text = "sleap-nn track -i a.slp -m m -o /data/out/p.slp";
    let remarks = parse(ScriptFile::Track, text).unwrap().remarks;
    assert_eq!(remarks, ["track-script.sh, line 1: p.slp is used, not /data/out/p.slp"]);
}

#[test]
fn every_setting_is_kept() {
    let text = "sleap-nn train a.yaml trainer_config.max_epochs=3 \
        'data_config.train_labels_path=[\"x, y.slp\",z.slp]' trainer_config.use_wandb=true \
        trainer_config.max_epochs=5 +a.b='{c: 1}' ++a.c='x=y' ~a.d a.e=\"it is\"";
    let script = parse(ScriptFile::Train, text).unwrap();
    let Run::Train(run) = &script.runs[0] else { panic!() };
    let kept: Vec<_> =
        run.settings.iter().map(|set| (set.key.as_str(), set.value.clone())).collect();
    let bare = |text: &str| Value::Bare(text.into());
    assert_eq!(
        kept,
        [
            ("data_config.train_labels_path", bare("[\"x, y.slp\",z.slp]")),
            ("trainer_config.use_wandb", bare("true")),
            ("trainer_config.max_epochs", bare("5")),
            ("a.b.c", bare("1")),
            ("a.c", Value::Text("x=y".into())),
            ("a.d", Value::Removed),
            ("a.e", Value::Text("it is".into())),
        ]
    );
    assert_eq!(run.settings[0].value.texts(), ["x, y.slp", "z.slp"]);
    assert_eq!(script.remarks, Vec::<String>::new());
}

#[test]
fn values_are_read_and_written_as_hydra_does() {
    for (written, text) in [
        (r#""C:\data\x""#, r"C:\data\x"),
        (r#""x\\""#, r"x\"),
        (r#""say \"hi\"""#, r#"say "hi""#),
        (r"'it\'s'", "it's"),
        (r#""a\\\"b""#, r#"a\"b"#),
        (r"C:\data", r"C:\data"),
        (r"a\,b\ c\\d\(e\)", r"a,b c\d(e)"),
        (" x ", "x"),
        (r#""x\""#, r#""x\""#),
    ] {
        assert_eq!(Value::parse(written), Value::Text(text.into()), "{written}");
        assert_eq!(Value::parse(&quoted(text)), Value::Text(text.into()), "{text}");
        assert_eq!(Value::list(&[text.to_owned()]).texts(), [text]);
    }
    assert_eq!(quoted(r"C:\data"), r#""C:\data""#);
    assert_eq!(Value::parse(" 3"), Value::Bare("3".into()));
}

#[test]
fn a_mapping_sets_each_of_its_entries() {
    let text = "sleap-nn train a.yaml 'trainer_config={max_epochs: 3, optimizer: {lr: 0.1}, \
        run_name: \"a, b\"}' '+data_config={val_labels_path: [a.slp, \"b.slp\"]}' model_config={}";
    let runs = runs(ScriptFile::Train, text);
    let [Run::Train(run)] = &runs[..] else { panic!("{runs:?}") };
    let settings: Vec<_> =
        run.settings.iter().map(|set| (set.key.as_str(), set.value.clone())).collect();
    assert_eq!(
        settings,
        [
            ("trainer_config.max_epochs", Value::Bare("3".into())),
            ("trainer_config.optimizer.lr", Value::Bare("0.1".into())),
            ("data_config.val_labels_path", Value::Bare("[a.slp, \"b.slp\"]".into())),
        ]
    );
    assert_eq!(run.run_name.as_deref(), Some("a, b"));
}

#[test]
fn the_script_that_our_client_writes() {
    let text = "#!/bin/bash\n# Auto-generated\n\nsleap-nn track \\\n  --data_path two.pkg.slp \\\n  \
        --model_paths models/centroid \\\n  --model_paths models/centered_instance \\\n  \
        -o predictions.slp\n";
    let expected = Track {
        data: place("two.pkg.slp"),
        mounted: None,
        models: ["models/centroid", "models/centered_instance"]
            .map(|m| Model::Named(place(m)))
            .into(),
        output: path("predictions.slp"),
        options: Vec::new(),
    };
    assert_eq!(runs(ScriptFile::Track, text), [Run::Track(expected)]);
}

#[test]
fn other_ways_to_write_an_inference() {
    for text in [
        "sleap-nn predict --gui -i a.slp -m m/ -o o.slp -t --peak_threshold=0.3",
        "sleap track --data-path a.slp --model-paths ./m --output_path o.slp --tracking \
         --peak-threshold 0.3",
        "sleap-track a.slp -m m -o o.slp --tracking --peak_threshold 0.3",
        "sleap-nn-track a.slp --model_paths=m --output=o.slp --tracking --peak_threshold 0.3",
    ] {
        let runs = runs(ScriptFile::Track, text);
        let [Run::Track(track)] = &runs[..] else { panic!("{text}: {runs:?}") };
        let Model::Named(model) = &track.models[0] else { panic!() };
        assert_eq!((track.data.path.as_str(), model.path.as_str()), ("a.slp", "m"), "{text}");
        let options: Vec<_> = track.options.iter().map(|o| (o.name, o.value.as_deref())).collect();
        assert_eq!(options, [("--tracking", None), ("--peak_threshold", Some("0.3"))], "{text}");
    }
    let script = parse(ScriptFile::Track, "sleap-nn track -i a.slp -m m").unwrap();
    let Run::Track(track) = &script.runs[0] else { panic!() };
    assert_eq!(track.output.as_str(), "a.slp.predictions.slp");
}

#[test]
fn the_value_of_an_option_stays_with_it() {
    let start = "sleap-nn track -i a.slp -m m -o p.slp";
    for (options, expected) in [
        ("--tracking_clean_instance_count 2 --max_tracks 2", ["2", "2"]),
        ("--anchor_part \"left ear\" --features Rücken", ["left ear", "Rücken"]),
        ("--max_edge_length_ratio 0.5 --filter_min_mean_node_score 3e-1", ["0.5", "3e-1"]),
        ("--dist_penalty_weight -2 --kf_init_frame_count 5", ["-2", "5"]),
        ("--frames 0-2,5 --paf-workers 3", ["0,1,2,5", "3"]),
        ("--frames 2,30-31 --frames 7-9", ["2,30,31", "7-9"]),
        ("--frames 1,-3 --centroid-output both", ["1-3", "both"]),
    ] {
        let runs = runs(ScriptFile::Track, &format!("{start} {options}"));
        let Run::Track(track) = &runs[0] else { panic!() };
        let values: Vec<_> = track.options.iter().filter_map(|o| o.value.as_deref()).collect();
        assert_eq!(values, expected, "{options}");
    }
    for (options, expected) in [
        ("--tracking.tracker flow", "the option `--tracking.tracker` is not supported"),
        ("--output_format analysis_h5", "the option `--output_format` is not supported"),
        ("--max_tracks --tracking", "`--max_tracks` does not take \"--tracking\""),
        ("--peak_threshold high", "`--peak_threshold` does not take \"high\""),
        ("--frames 5-3", "`--frames` does not take \"5-3\""),
        ("--frames 0-100000,200000", "`--frames` does not take"),
        ("b.slp c.slp", "the word \"b.slp\" is not understood"),
    ] {
        let error = refusal(ScriptFile::Track, &format!("{start} {options}"));
        assert!(error.contains(expected), "{options}: {error}");
    }
}

#[test]
fn refusals_name_the_line_and_the_reason() {
    use ScriptFile::{Track, Train};
    let cases = [
        (Train, "#!/bin/bash\necho hello\n", "train-script.sh has no line that starts"),
        (Track, "sleap-nn train a.yaml", "track-script.sh, line 1: it starts a training"),
        (Train, "\ncd ..\nsleap-nn train x.yaml", "train-script.sh, line 2: the file path"),
        (Train, "sleap-nn train –config-name a.yaml", "the option `–config-name`"),
        (Train, "cd /data/mice\nsleap-nn train a.yaml", "line 1: `cd /data/mice` leaves"),
        (
            Train,
            "sleap-nn train a.yaml 'trainer_config.seed=${oc.env:HOME}'",
            "trainer_config.seed",
        ),
        (Train, "sleap-nn train a.yaml hydra.run.dir=/tmp", "the setting `hydra.run.dir`"),
        (Train, "sleap-nn train a.yaml --multirun", "the option `--multirun`"),
        (Train, "sleap-nn train a.yaml trainer_config.optimizer.lr=1e-3,1e-4", "(a sweep)"),
        (Train, "sleap-nn train a.yaml 'trainer_config.seed=range(1,4)'", "(a sweep)"),
        (Train, "sleap-nn train 'a.yaml", "line 1: its quotes do not match"),
        (Train, "sleap-nn train", "it names no config"),
        (Train, "sleap-nn train --config-name a.json", "takes a YAML file"),
        (Train, "sleap-train a.json", "it names no labels"),
        (Train, "sleap-train a.json b.slp --base_checkpoint x", "`--base_checkpoint`"),
        (Train, "A && \\\n B", "line 1: `A` is refused"),
        (Train, "sleap-nn train a.yaml || sleap-nn train b.yaml", "line 1: `||` is refused"),
        (Train, "\nif true; then sleap-nn train a.yaml; fi", "line 2: `if` is refused"),
        (Train, "for c in a b; do\nsleap-nn train $c\ndone", "`for` is refused"),
        (Train, "sleap-nn train a.yaml | grep loss", "`|` is refused"),
        (Train, "(cd x; sleap-nn train a.yaml)", "`(` is refused"),
        (Train, "cat > a.yaml <<EOF\nx\nEOF\n", "`<<` is refused"),
        (Train, "echo x > a.yaml; sleap-nn train a.yaml", "`echo x` is refused"),
        (Train, "sleap-nn train $(ls *.yaml)", "`$(ls *.yaml)` is refused"),
        (Train, "sleap-nn train $CONFIG", "`$CONFIG` is refused"),
        (Train, "sleap-nn train *.yaml", "`*` is refused"),
        (Train, "python prepare.py && sleap-nn train a.yaml", "`python prepare.py` is refused"),
        (Train, "conda run -n x python a.py; sleap-nn train a.yaml", "`conda run -n x"),
        (Train, "bash -c 'sleap-nn train a.yaml'", "`bash -c` is not known to leave"),
        (Train, "strace -f -- sleap-nn train a.yaml", "`strace -f --` is not known to leave"),
        (Train, "sleap-nn -v train a.yaml", "`sleap-nn -v train a.yaml` is refused"),
        (Train, "sleap-nn train $'a.yaml'", "`$'` is refused"),
        (Train, "sleap-nn train a.yaml -c b.yaml", "it names the configs a.yaml and b.yaml"),
        (Train, "sleap-nn train a.yaml 'a.seed=int(3.5)'", "`a.seed` is computed by a function"),
        (Train, "timeout 10h sleap-nn train a.yaml", "`timeout` is refused"),
        (Train, "cd \"$(dirname \"$0\")/..\"; sleap-nn train a.yaml", "the file path \"..\""),
        (Train, "cd $(dirname conf/a.yaml)\nsleap-nn train a.yaml", "`$(dirname conf/a.yaml)`"),
        (Train, "cd $PWD/$X\nsleap-nn train a.yaml", "`$PWD $X` is refused"),
        (Train, "echo 'a: 1' | tee a.yaml\nsleap-nn train a.yaml", "`echo a: 1` is refused"),
        (Train, "sleap-nn train a.yaml | tee log | grep loss", "`|` is refused"),
        (Train, "sleap-nn train a.yaml || true", "`||` is refused"),
        (Train, "set -- a.slp\nsleap-nn train a.yaml \"$@\"", "`set -- a.slp` is refused"),
        (Train, "set trainer_config.seed=3; sleap-nn train a.yaml $@", "`set trainer_config"),
        (Train, "source ./more.sh\nsleap-nn train a.yaml", "`source ./more.sh` is refused"),
        (Train, ". common.sh && sleap-nn train a.yaml", "`. common.sh` is refused"),
        (Train, "A=a.yaml; unset A; sleap-nn train $A", "`$A` is refused"),
        (Train, "sleap-nn train ${A%.json}.yaml", "`${A%.json}` is refused"),
        (Train, "sleap-nn train ${A:-$B}", "`${A:-$B}` is refused"),
        (Train, "train() { sleap-nn train a.yaml; }; train", "`(` is refused"),
        (Train, "while read c; do sleap-nn train $c; done < list", "`while` is refused"),
        (Train, "[ -f a.yaml ] && sleap-nn train a.yaml", "`[ -f a.yaml ]` is refused"),
        (Train, "false && sleap-nn train a.yaml", "`false` is refused"),
        (Train, "sleap-nn train <(echo x)", "`<(` is refused"),
        (Train, "sleap-nn train {a,b}.yaml c.yaml", "the word \"c.yaml\""),
        (Train, "sbatch job.sh; sleap-nn train a.yaml", "`sbatch job.sh` is refused"),
        (Train, "cp b.yaml a.yaml; sleap-nn train a.yaml", "`cp b.yaml a.yaml` is refused"),
        (Train, "sed -i s/1/2/ a.yaml\nsleap-nn train a.yaml", "`sed -i s/1/2/ a.yaml` is refused"),
        (Train, "env -C .. sleap-nn train a.yaml", "the file path \"..\""),
        (Train, "env -C \"$X\" sleap-nn train a.yaml", "`$X` is refused"),
        (Train, "cd my job; sleap-nn train a.yaml", "the word \"job\""),
        (Train, "popd; sleap-nn train a.yaml", "`cd -` leaves"),
        (Train, "sleap-nn train a.yaml 'trainer_config={a.b: 1}'", "the setting `trainer_config`"),
        (Track, "sleap-nn track -m m -o o.slp", "it names no data"),
        (Track, "sleap-nn track -i a.slp", "it names no model"),
        (Track, "sleap-nn track -i a.slp -m", "it names no value"),
        (Track, "sleap-nn track -i -x -m m", "does not take \"-x\""),
    ];
    for (file, text, expected) in cases {
        let error = refusal(file, text);
        assert!(error.contains(expected), "{text:?} gave {error:?}");
    }
    let error = refusal(Train, "sleap-nn train \\\n  --config-name a.json\n");
    assert!(error.ends_with("; the line is: sleap-nn train --config-name a.json"), "{error}");
    let many = "sleap-nn train a.yaml\n".repeat(33);
    assert!(matches!(parse(Train, &many), Err(ScriptError::TooMany { .. })));
}

#[test]
fn every_option_of_the_table_is_found_under_its_own_name() {
    for (name, kind) in options::OPTIONS {
        assert_eq!(options::find(name), Some((*name, *kind)));
    }
}

/// `SLEAP_NN=/path/of/sleap-nn cargo nextest run -p sleap-rtc-package --run-ignored only installed`
#[test]
#[ignore = "needs a real sleap-nn, named by SLEAP_NN"]
fn every_option_of_an_installed_sleap_nn_is_known() {
    let program = std::env::var("SLEAP_NN").expect("SLEAP_NN names the program");
    for verb in ["track", "predict"] {
        let mut command = std::process::Command::new(&program);
        let output = command.args([verb, "--help"]).env("COLUMNS", "250").output().unwrap();
        let help = String::from_utf8_lossy(&output.stdout);
        // Before 0.3 this is another program, which jobs never start.
        if help.contains("exported models") && verb == "predict" {
            continue;
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        // An option is at the start of its line, after the frame. Its description is further right.
        let starts = help.lines().filter_map(|line| {
            let line = line.trim_start_matches(['│', '*', ' ']);
            line.starts_with("--").then(|| line.split("  ").next().unwrap_or(line).to_owned())
        });
        let names = starts.flat_map(|start| {
            let names = start.split([',', '/', ' ']).map(|name| name.trim().to_owned());
            names.collect::<Vec<_>>()
        });
        let names: Vec<String> =
            names.filter(|name| name.len() > 2 && name.chars().all(is_name)).collect();
        assert!(names.len() > 40 || !output.status.success(), "{verb}: {names:?}");
        let own = ["--help"];
        let unknown: Vec<&String> = names
            .iter()
            .filter(|name| name.starts_with("--") && !own.contains(&name.as_str()))
            .filter(|name| options::find(name).is_none())
            .collect();
        assert!(unknown.is_empty(), "{verb}: {unknown:?}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        for file in [ScriptFile::Train, ScriptFile::Track, ScriptFile::Inference] {
            let _ = parse(file, &text);
        }
    }

    #[test]
    fn no_shell_text_panics(text in "[a-c$(){}`'\"\\\\ \n|&;<>=*#/0-9.-]{0,60}") {
        let _ = parse(ScriptFile::Train, &format!("sleap-nn train {text}"));
    }

    #[test]
    fn no_arguments_panic_or_leave_the_package(
        words in proptest::collection::vec(
            prop_oneof![
                "[-a-z./=+$\"'\\\\ ]{0,12}",
                Just("--config-dir".to_owned()),
                Just("--config-name".to_owned()),
                Just("--model_paths".to_owned()),
                Just("-o".to_owned()),
                Just("trainer_config.run_name=".to_owned()),
            ],
            0..12,
        )
    ) {
        let arguments = words.join(" ");
        for (file, program) in
            [(ScriptFile::Train, "sleap-nn train"), (ScriptFile::Track, "sleap-nn track")]
        {
            for run in parse(file, &format!("{program} {arguments}")).iter().flat_map(|s| &s.runs) {
                let paths: Vec<RelPath> = match run {
                    Run::Train(run) => {
                        prop_assert!(!run.folder_name().contains('/'));
                        vec![run.config.path.clone()]
                    }
                    Run::TrainLegacy(run) => vec![run.config.path.clone(), run.labels.path.clone()],
                    Run::Track(run) => vec![run.data.path.clone(), run.output.clone()],
                };
                for path in paths {
                    prop_assert!(!path.as_str().split('/').any(|part| part == ".."));
                }
            }
        }
    }
}

#[test]
fn thousands_of_settings_in_one_word_need_no_stack() {
    let glued: String = (0..3000).map(|n| format!("trainer_config.k{}={n}", n % 7)).collect();
    let run = runs(ScriptFile::Train, &format!("sleap-nn train a.yaml {glued}"));
    let Run::Train(train) = &run[0] else { panic!("{run:?}") };
    assert_eq!(train.settings.len(), 7);
}
