"""Adapters that write the metrics of other frameworks into a run: one module for each framework.

========================  =====================================================================
module                    has
========================  =====================================================================
``lightning``             `NotataLogger`, a logger of PyTorch Lightning
``keras``                 `NotataCallback`, a callback of Keras
``transformers``          `NotataCallback`, a callback of the Trainer of Hugging Face
``xgboost``               `NotataCallback`, a callback of XGBoost
``lightgbm``              `NotataCallback`, a callback of LightGBM
``optuna``                `NotataCallback`, a callback of Optuna, and `trial_run`
========================  =====================================================================

Each takes a `Logbook` or `Worker` that the caller opened, and never ends it. With None it records nothing, for the
other processes of a distributed job. A module imports its framework; `import notata` imports none of them.
"""
