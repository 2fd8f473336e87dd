// What a panel of the dashboard may be, by Grafana's own types; tests/deploy/dashboards.py writes the panels below it.
import type { Dashboard, DataSourceRef, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type * as barchart from 'panels/barchart';
import type * as stat from 'panels/stat';
import type * as statetimeline from 'panels/statetimeline';
import type * as table from 'panels/table';
import type * as timeseries from 'panels/timeseries';

// JSON knows no enumerations, only their texts.
type Json<T> = unknown extends T
  ? T
  : T extends string
    ? `${T}`
    : T extends (infer Item)[]
      ? Json<Item>[]
      : T extends object
        ? { [Key in keyof T]: Json<T[Key]> }
        : T;

interface PrometheusQuery {
  datasource: DataSourceRef;
  refId: string;
  expr: string;
  format: 'table' | 'time_series';
  instant: boolean;
  range: boolean;
  legendFormat?: string;
}

type Defaults = Omit<FieldConfigSource['defaults'], 'custom'>;

type Of<Type extends string, Options, Custom> = Json<Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'>> & {
  type: Type;
  options: Json<Options>;
  targets: PrometheusQuery[];
  fieldConfig: Json<Omit<FieldConfigSource, 'defaults'>> & { defaults: Json<Defaults> & { custom?: Json<Custom> } };
};

export type Panels = {
  barchart: Of<'barchart', barchart.Options, barchart.FieldConfig>;
  stat: Of<'stat', stat.Options, Record<string, never>>;
  'state-timeline': Of<'state-timeline', statetimeline.Options, statetimeline.FieldConfig>;
  table: Of<'table', table.Options, table.FieldConfig>;
  timeseries: Of<'timeseries', timeseries.Options, timeseries.FieldConfig>;
  row: Json<RowPanel>;
};

export type Around = Json<Omit<Dashboard, 'panels'>>;
