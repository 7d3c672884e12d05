#!/usr/bin/env bash
# Download, process, warm start, train, evaluate on six benchmarks, report. See --help.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."

usage() {
    cat <<'HELP'
The whole way from raw benchmarks to a report, in stages that are skipped when they are done.

    export OPENAI_API_KEY=...
    scripts/run_full_pipeline.sh --model Qwen/Qwen2.5-7B-Instruct --gpu a100_40gb --executor_budget_usd 50
    scripts/run_full_pipeline.sh --executor local --limit 8 --source_dir DIR     # a laptop: no GPU, no key, no network

  --model M        policy to train [Qwen/Qwen2.5-7B-Instruct; with --executor local a tiny one, built in the run]
  --gpu CLASS      a class of recipes/configs/gpus.yaml [a100_40gb; none with --executor local]
  --limit N        N problems of each benchmark in the evaluations, and a short training [all]
  --steps N        GRPO steps [500; 2 with --limit]
  --source_dir DIR raw files, instead of the Hub (scripts/download_datasets.py --help says under which names)
  --run_dir DIR    everything goes here [outputs/pipeline]
  --baselines "A B"  published baselines to evaluate, see scripts/evaluate.py [all; "io programmer" with --limit]
  --executor local|openai, and every other --executor_* flag, is passed on to all stages

Stop it at any time: the same command goes on from there. A stage runs again when its command, or that of a stage before
it, has changed. Ends with DIR/comparison.md and DIR/train/report.html.
HELP
}

die() { echo "error: $*" >&2; exit 2; }
from_here() { [[ $1 == /* || $here == "$PWD" ]] && echo "$1" || echo "$here/$1"; } # a path as the caller meant it

model="" gpu="" limit="" steps="" source_dir="" run=outputs/pipeline baselines="" executor=openai
executor_flags=()
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --model | --gpu | --limit | --steps | --source_dir | --run_dir | --baselines | --executor | --executor_*)
            (($# > 1)) || die "$1 needs a value"
            case $1 in
                --model) model=$2; [[ -d $here/$2 ]] && model=$(from_here "$2") ;; --gpu) gpu=$2 ;; --limit) limit=$2 ;; --steps) steps=$2 ;;
                --source_dir) source_dir=$(from_here "$2") ;; --run_dir) run=$(from_here "$2") ;; --baselines) baselines=$2 ;;
                *) executor_flags+=("$1" "$2"); [[ $1 == --executor ]] && executor=$2 ;;
            esac
            shift 2 ;;
        *) die "unknown flag $1; --help lists the known ones" ;;
    esac
done
for number in "$limit" "$steps"; do
    [[ -z $number || $number =~ ^[1-9][0-9]*$ ]] || die "--limit and --steps take a whole number above 0, not '$number'"
done
[[ -z $source_dir || -d $source_dir ]] || die "--source_dir $source_dir: no such folder"
[[ $executor == local || -n ${OPENAI_API_KEY:-} || " ${executor_flags[*]} " == *" --executor_base_url "* ]] ||
    die "no executor: set OPENAI_API_KEY, or use --executor local"
[[ -z $gpu || -f accelerate_configs/$gpu.yaml ]] || die "--gpu $gpu: there is no accelerate_configs/$gpu.yaml"
[[ -d .venv ]] && export PATH="$PWD/.venv/bin:$PATH"
command -v accelerate >/dev/null || die "the project is not installed: make setup"

# Stages

mkdir -p "$run/stages"
chain=""
stage() { # stage NAME COMMAND...: run the command, unless it is done and nothing before it has changed
    local name=$1 stamp=$run/stages/$1
    shift
    chain=$(printf '%q ' "$chain" "$@" | sha256sum | cut -d' ' -f1)
    if [[ -f $stamp && $(<"$stamp") == "$chain" ]]; then
        echo "== $name: done before"
        return
    fi
    echo "== $name"
    "$@" || { local code=$?; echo "error: stage $name failed ($code); the same command goes on from it" >&2; exit "$code"; }
    printf '%s' "$chain" >"$stamp.partial" && mv "$stamp.partial" "$stamp"
}

download() { # some benchmarks may be missing, but not all
    python scripts/download_datasets.py "${wanted[@]}" --output_dir "$raw" \
        ${source_dir:+--source_dir "$source_dir"} || compgen -G "$raw/*/manifest.json" >/dev/null
}

warm_start() {
    local flags=(--sources "${training[@]}" --domain_mix "$mix" --output_dir "$run/warm_start")
    if [[ -n $tiny ]]; then
        flags+=(--config recipes/configs/quickstart_warmstart.yaml ${limit:+--num_examples $((limit * 75))})
    else
        flags+=(--model_name_or_path "$model")
    fi
    accelerate launch --quiet "${launch[@]}" recipes/sft_warmstart.py "${flags[@]}"
    if [[ -f $run/warm_start/adapter_config.json ]]; then # GRPO trains an adapter of its own on the merged model
        python scripts/merge_adapter.py "$run/warm_start" --output "$run/policy"
    else
        rm -rf "$run/policy" && cp -r "$run/warm_start" "$run/policy"
    fi
}

train() {
    local flags=(--model_name_or_path "$run/policy" --sources "${training[@]}" --domain_mix "$mix" --output_dir "$run/train")
    if [[ -n $tiny ]]; then
        flags+=(--config recipes/configs/quickstart.yaml --warm_start_config none)
    else
        flags+=(--gpu "$gpu")
    fi
    if [[ -n $limit ]]; then
        flags+=(--num_train_problems $((limit > 4 ? limit : 4)) --num_heldout_problems "$limit" --no_baselines)
        flags+=(--max_steps "${steps:-2}" --num_generations 4 --per_device_train_batch_size 16) # 4 problems a step
        flags+=(--gradient_accumulation_steps 1)
    elif [[ -n $steps ]]; then
        flags+=(--max_steps "$steps")
    fi
    accelerate launch --quiet "${launch[@]}" recipes/grpo_mixed.py "${flags[@]}" --save_strategy steps \
        --resume_from_checkpoint auto "${executor_flags[@]}"
}

evaluate() { # evaluate NAME FLAGS...
    local output=$run/eval/$1
    shift
    python scripts/evaluate.py --data "${tests[@]}" ${limit:+--limit "$limit"} --output "$output" "$@" \
        "${executor_flags[@]}"
}

report() {
    python scripts/report.py "$run/train"
    python scripts/compare.py "$run"/eval/before "$run"/eval/after "$run"/eval/baselines --markdown "$run/comparison.md"
}

raw=$run/data/raw processed=$run/data/processed
declare -A domain_of # of each benchmark
train_names=() test_names=()
while read -r name domain; do train_names+=("$name") domain_of[$name]=$domain; done < <(python scripts/download_datasets.py --list train)
while read -r name domain; do test_names+=("$name") domain_of[$name]=$domain; done < <(python scripts/download_datasets.py --list test)
((${#train_names[@]} && ${#test_names[@]})) || die "data/benchmarks/hub.yaml names no benchmark for the pipeline"
mapfile -t wanted < <(printf '%s\n' "${train_names[@]}" "${test_names[@]}" | awk '!seen[$0]++')
tiny="" max_prompt_tokens=3072
if [[ $executor == local && -z $gpu ]]; then
    launch=(--config_file accelerate_configs/cpu.yaml --num_cpu_threads_per_process "$(nproc)")
    [[ -z $model ]] && tiny=yes
else
    launch=(--config_file "accelerate_configs/${gpu:=a100_40gb}.yaml")
fi
[[ $executor == local ]] && max_prompt_tokens=400 # what the embedded executor reads at once
: "${model:=Qwen/Qwen2.5-7B-Instruct}" "${baselines:=${limit:+io programmer}}" "${baselines:=all}"

stage download download "$source_dir"
stage process python scripts/process_datasets.py --input_dir "$raw" --output_dir "$processed" \
    --max_prompt_tokens "$max_prompt_tokens"

training=() tests=() shares=()
declare -A trains # domain -> yes
for name in "${train_names[@]}"; do
    [[ -f $processed/$name/train.jsonl ]] && training+=("$processed/$name/train.jsonl") && trains[${domain_of[$name]}]=yes
done
for name in "${test_names[@]}"; do
    [[ -f $processed/$name/test.jsonl ]] && tests+=("$processed/$name/test.jsonl")
done
((${#training[@]})) || die "no benchmark with a training split was processed"
[[ -n ${trains[math]:-} ]] && shares+=(math=0.4)
for domain in $(printf "%s\n" "${!trains[@]}" | sort); do [[ $domain == math ]] || shares+=("$domain=0.3"); done
mix=$(IFS=,; echo "${shares[*]}")

stage warm_start warm_start "$model" "$mix" "${training[@]}"
stage train train "$gpu" "$limit" "$steps" "${executor_flags[@]}"
stage evaluate_before evaluate before --model "$run/policy" ${tiny:+--prompt_style brief --max_completion_length 96}
stage evaluate_after evaluate after --model "$run/policy" --adapter "$run/train" ${tiny:+--max_completion_length 96}
# shellcheck disable=SC2086 # a list of names
stage evaluate_baselines evaluate baselines --baseline $baselines
stage report report
echo "comparison: $run/comparison.md; report: $run/train/report.html"
